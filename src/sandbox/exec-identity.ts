import { ID_PREFIX, newId } from "../contract/ids.ts";
import type { ExecRequest } from "../contract/process.ts";

/** What makes an exec the same as another. */
export interface ExecIdentity {
  processId: string;
  /** SHA-256 of the request, where a key makes it repeatable. */
  requestHash?: string;
}

/**
 * The id of the process that a request starts. With an idempotency key it follows from the key: the same request again
 * finds the process, in the object's records and on the host, whatever became of the answer to the first.
 */
export async function identify(request: ExecRequest, key: string | undefined): Promise<ExecIdentity> {
  if (key === undefined) return { processId: newId("process") };
  const [id, requestHash] = await Promise.all([digest(key), digest(JSON.stringify(request))]);
  return { processId: `${ID_PREFIX.process}-${id.slice(0, 22)}`, requestHash };
}

async function digest(text: string): Promise<string> {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
