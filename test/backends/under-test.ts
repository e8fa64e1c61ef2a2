import type { Backend } from "../../src/backends/backend.ts";
import type { ByteSource } from "../../src/contract/byte-source.ts";
import { asApiError } from "../../src/contract/errors.ts";
import { errorOfHostAnswer } from "../../src/contract/host-answer.ts";
import type { ExecSpec, ProcessStatus, StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";

export interface BackendUnderTest {
  name: string;
  /** An image with a POSIX shell that the backend runs. */
  image: string;
  /** Set where no process can run as another user than the image's. */
  hasOneUser?: boolean;
  /** Set where there are only a few programs, no shell that would know more, and no links. */
  hasNoShell?: boolean;
  /** Set where a container keeps the network that it started with. */
  hasFixedNetwork?: boolean;
  /** An address that a sandbox without rules can connect to, and the command that ends with 0 when it could. */
  outside?: { address: string; reach: string[] };
  /** Set where the container is beside the object that looks after it. */
  isBesideObject?: boolean;
  open(sandboxId: string): Backend;
}

export const text = (base64: string | undefined) => new TextDecoder().decode(bytes(base64));
export const bytes = (base64: string | undefined) =>
  Uint8Array.from(atob(base64 ?? ""), (character) => character.charCodeAt(0));
export const stream = (content: string | Uint8Array<ArrayBuffer>) => new Response(content).body!;
export const emptyStream = () => new ReadableStream<Uint8Array>({ start: (controller) => controller.close() });

export const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => "no error",
    (error: unknown) => asApiError(error)?.code ?? String(error),
  );

export const errorOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => asApiError(error),
  );

export const startSpec = (image: string, sandboxId: string, more: Partial<StartSpec> = {}): StartSpec => ({
  sandbox_id: sandboxId,
  environment: "main",
  generation: 1,
  image,
  env: { FROM_START: "start" },
  raw_ports: [],
  lifetime_ms: 300_000,
  ...more,
});

/** Does something with a container that is there for as long. */
export async function runIn(
  under: BackendUnderTest,
  more: Partial<StartSpec>,
  work: (own: Backend) => Promise<void>,
): Promise<void> {
  const id = newId("sandbox");
  const own = under.open(id);
  try {
    const { kind } = await own.start(startSpec(under.image, id, more));
    if (kind !== "launched") throw new Error(`The container is ${kind}.`);
    await work(own);
  } finally {
    await own.stop();
  }
}

export const exec = (
  backend: Backend,
  command: string[],
  more: Partial<ExecSpec> = {},
  waitMs = 10_000,
): Promise<ProcessStatus> => backend.exec({ process_id: newId("process"), command, env: {}, ...more }, waitMs);

/** Opens the source as whoever is handed it does. */
export async function open(source: ByteSource): Promise<ReadableStream<Uint8Array>> {
  if (source.kind === "stream") return source.body;
  const response = await fetch(source.url, { headers: source.headers });
  const error = await errorOfHostAnswer(response);
  if (error) throw error;
  return response.body!;
}

export const readText = async (source: Promise<ByteSource>) => new Response(await open(await source)).text();
