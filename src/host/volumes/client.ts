import type { z } from "zod";
import {
  CommittedSchema,
  HashesSchema,
  LocatedSchema,
  MAX_ENTRIES_A_PAGE,
  VolumeChangesSchema,
  type ChunkPlace,
  type CommitPart,
  type VolumeChanges,
} from "../../contract/volume-sync.ts";
import { fetchGranted, isPassingStatus, retrying, whyUnanswered } from "../control-plane-fetch.ts";

/** How long a call that fails for want of an answer, or with one that may change, is tried again. Counts from its first failure. */
const PATIENCE_MS = 5_000;
const FIRST_PAUSE_MS = 100;
const LAST_PAUSE_MS = 2_000;
const CALL_TIMEOUT_MS = 60_000;
/** A pack may be on a slow line. */
const PACK_TIMEOUT_MS = 300_000;

/** What the control plane said against it; the message is for a person. `status` 0: it did not answer. */
export class SyncError extends Error {
  override readonly name = "SyncError";
  readonly status: number;
  readonly code: string | undefined;

  constructor(message: string, status: number, more: { code?: string | undefined; cause?: unknown } = {}) {
    super(message, { cause: more.cause });
    this.status = status;
    this.code = more.code;
  }

  /** True of what may be otherwise in a moment. */
  get isPassing(): boolean {
    return isPassingStatus(this.status);
  }
}

interface Call {
  headers?: Record<string, string>;
  body?: readonly Uint8Array[];
  timeoutMs?: number;
}

/** A volume of the control plane, for one grant: see `contract/volume-sync.ts`. Every call may be repeated, and is. Throws {@link SyncError}. */
export class SyncClient {
  readonly #url: string;
  readonly #token: string;
  readonly #patienceMs: number;
  /** Bytes of bodies, all in all, whether they arrived or not. */
  sentBytes = 0;
  receivedBytes = 0;

  /** `url`: of the control plane. */
  constructor(url: string, volumeId: string, token: string, patienceMs = PATIENCE_MS) {
    this.#url = `${url}/v1/volumes/${volumeId}/sync`;
    this.#token = token;
    this.#patienceMs = patienceMs;
  }

  changes(since: number, after: string | undefined, prefix: string | undefined): Promise<VolumeChanges> {
    const query = new URLSearchParams({ since: String(since), limit: String(MAX_ENTRIES_A_PAGE) });
    if (after !== undefined) query.set("after", after);
    if (prefix !== undefined) query.set("prefix", prefix);
    return this.#json("GET", `/changes?${query}`, undefined, VolumeChangesSchema);
  }

  async missing(hashes: string[]): Promise<string[]> {
    return (await this.#json("POST", "/missing", { hashes }, HashesSchema)).hashes;
  }

  async locate(hashes: string[]): Promise<ChunkPlace[]> {
    return (await this.#json("POST", "/locate", { hashes }, LocatedSchema)).chunks;
  }

  /** The pieces, one behind the other. */
  async putPack(packId: string, pieces: readonly Uint8Array[]): Promise<void> {
    const headers = { "content-type": "application/octet-stream" };
    await this.#retrying(async () => {
      const call = { headers, body: pieces, timeoutMs: PACK_TIMEOUT_MS };
      await (await this.#once("PUT", `/packs/${packId}`, call)).body?.cancel();
    });
  }

  /** Hands out so many bytes of a pack as they come; what breaks off throws, and is the caller's to ask for again. */
  async *readPack(packId: string, offset: number, length: number): AsyncGenerator<Uint8Array> {
    const call = { headers: { range: `bytes=${offset}-${offset + length - 1}` }, timeoutMs: PACK_TIMEOUT_MS };
    const response = await this.#once("GET", `/packs/${packId}`, call);
    // One that does not know ranges would send other bytes.
    if (response.status !== 206) {
      await response.body?.cancel();
      throw new SyncError("the control plane does not send a part of a pack", 500);
    }
    try {
      for await (const bytes of response.body ?? []) {
        this.receivedBytes += (bytes as Uint8Array).length;
        yield bytes as Uint8Array;
      }
    } catch (cause) {
      throw new SyncError(`the control plane breaks off: ${whyUnanswered(cause)}`, 0, { cause });
    }
  }

  async putPart(commitId: string, number: number, part: CommitPart): Promise<void> {
    await this.#json("POST", `/commits/${commitId}/parts/${number}`, part);
  }

  async commit(commitId: string, parts: number): Promise<number> {
    return (await this.#json("POST", `/commits/${commitId}`, { parts }, CommittedSchema)).version;
  }

  #retrying<T>(attempt: () => Promise<T>): Promise<T> {
    return retrying(attempt, {
      patienceMs: this.#patienceMs,
      firstPauseMs: FIRST_PAUSE_MS,
      lastPauseMs: LAST_PAUSE_MS,
      isPassing: (error) => error instanceof SyncError && error.isPassing,
    });
  }

  async #json<Schema extends z.ZodType>(
    method: string,
    target: string,
    body?: unknown,
    schema?: Schema,
  ): Promise<z.output<Schema>> {
    const bytes = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const text = await this.#retrying(async () => {
      const headers = { "content-type": "application/json" };
      const response = await this.#once(method, target, bytes ? { headers, body: [bytes] } : {});
      const answer = await response.text().catch((cause: unknown) => {
        throw new SyncError(`the control plane breaks off: ${whyUnanswered(cause)}`, 0, { cause });
      });
      this.receivedBytes += Buffer.byteLength(answer);
      return answer;
    });
    if (!schema) return undefined as z.output<Schema>;
    try {
      return schema.parse(JSON.parse(text));
    } catch (cause) {
      throw new SyncError("the control plane does not say what was asked of it", 500, { cause });
    }
  }

  async #once(method: string, target: string, { headers, body, timeoutMs = CALL_TIMEOUT_MS }: Call): Promise<Response> {
    const length = body?.reduce((sum, piece) => sum + piece.length, 0) ?? 0;
    this.sentBytes += length;
    const response = await fetchGranted(this.#url + target, method, {
      token: this.#token,
      headers,
      body: body && { pieces: body, length },
      signal: AbortSignal.timeout(timeoutMs),
    }).catch((cause: unknown) => {
      throw new SyncError(`the control plane does not answer: ${whyUnanswered(cause)}`, 0, { cause });
    });
    if (response.ok) return response;
    throw await refusalOf(response);
  }
}

async function refusalOf(response: Response): Promise<SyncError> {
  const text = await response.text().catch(() => "");
  try {
    const { code, title, detail } = JSON.parse(text) as { code: string; title?: string; detail?: string };
    return new SyncError(`the control plane says: ${detail ?? title ?? code}`, response.status, { code });
  } catch {
    return new SyncError(`the control plane answers ${response.status}`, response.status);
  }
}
