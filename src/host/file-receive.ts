import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Writable } from "node:stream";
import { EndMarkerCheck } from "../contract/end-marker.ts";
import { ApiError } from "../contract/errors.ts";
import { DirectFile } from "./direct-file.ts";
import { readLine, runScript, runToEnd, type RunningScript } from "./file-script-run.ts";
import { DISCARD_SCRIPT, RECEIVE_SCRIPT } from "./file-scripts.ts";
import type { Container } from "./runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";

const KEEP_TIMEOUT_MS = 120_000;
/** How long a script may pass on nothing. A snapshot may stop it meanwhile. */
const STALL_MS = 60_000;
/** How much is written at once, and in how many parts at most. */
const PIECE_BYTES = 512 * 1024;
const MAX_PARTS = 512;
/** How long the removal of what a failed write left is waited for. */
const DISCARD_PATIENCE_MS = 5_000;

/** How a body that is whole is told from one that broke off. */
export interface Measure {
  /** What it must measure. */
  size?: number | undefined;
  endMarker?: string | undefined;
}

/** The content of a body as it comes. Throws `invalid_request` at its end where that is not the whole of it. */
export async function* contentOf(
  body: IncomingMessage,
  { size, endMarker }: Measure,
): AsyncGenerator<Uint8Array, void, undefined> {
  const check = endMarker === undefined ? undefined : new EndMarkerCheck(endMarker);
  let received = 0;
  // The request must survive, to be answered.
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    for (const part of check ? check.push(chunk) : [chunk]) {
      received += part.length;
      yield part;
    }
  }
  if (!body.complete || check?.isWhole === false) {
    throw new ApiError("invalid_request", { detail: "The body broke off." });
  }
  if (size !== undefined && received !== size) {
    throw new ApiError("invalid_request", { detail: `The body has ${received} bytes, not ${size}.` });
  }
}

/**
 * Takes all of the content into a temporary file beside the path (or in /tmp, where nothing can stand there), and has it put in
 * place: under the name, of the size. However it fails, nothing of the temporary file is left. The signal ends the reading. The parts of
 * the content are used up: nobody else may hold on to their memory.
 */
export async function receiveFile(
  container: Container,
  path: string,
  content: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
  place: (name: string, size: number) => Promise<void>,
): Promise<void> {
  const name = `.sandbar-${randomBytes(12).toString("hex")}`;
  const script = await runScript(container, RECEIVE_SCRIPT, [path, name], { signal, isBulk: true });
  try {
    await place(name, await pour(container, name, content, script));
  } catch (error) {
    script.kill();
    await settlesWithin(script.spawned.exited, DISCARD_PATIENCE_MS);
    await settlesWithin(runToEnd(container, DISCARD_SCRIPT, [path, name]), DISCARD_PATIENCE_MS);
    throw error;
  }
}

/** Has the content kept in the temporary file; done when all of it is there. The answer is its length. */
async function pour(
  container: Container,
  name: string,
  content: AsyncIterable<Uint8Array>,
  script: RunningScript,
): Promise<number> {
  const { stdin } = script.spawned;
  const kept = readLine(script.bytes);
  kept.catch(() => {});
  let received = 0;
  let isWhole = true;
  const sink = new Sink(stdin, () => openTemporary(container, name, script));
  // A script that speaks early has failed, or has gone with its sandbox: nobody need wait for its stdin, or hold on to the file.
  const stop = () => {
    stdin.destroy();
    sink.close();
  };
  kept.then(stop, stop);
  try {
    for await (const part of content) {
      isWhole = !stdin.destroyed;
      if (!isWhole) break;
      received += part.length;
      const passing = sink.take(part);
      if (passing) await passing;
    }
    if (isWhole) await sink.end();
  } finally {
    sink.close();
  }
  stdin.end();
  const line = (await withTimeLimit(kept, KEEP_TIMEOUT_MS, tooSlow("Writing the file")))?.line;
  if (line === "disk_full" || line === "permission_denied") throw new ApiError(line);
  if (line !== "kept" || !isWhole) throw new Error("the file was not written");
  return received;
}

/** The temporary file of the script, where this machine may write it and the script says where it is. */
function openTemporary(container: Container, name: string, { line }: RunningScript): DirectFile | undefined {
  const path = /^ready (.*)$/.exec(line)?.[1];
  return path?.endsWith(`/${name}`) ? DirectFile.open(container, Buffer.from(path, "latin1")) : undefined;
}

/** Takes content piece by piece, into a file that is opened once there is a whole piece; into a process's stdin where that is not to be. */
class Sink {
  readonly #stdin: Writable;
  readonly #open: () => DirectFile | undefined;
  /** Null where there is none. */
  #file: DirectFile | undefined | null;
  #parts: Uint8Array[] = [];
  #held = 0;

  constructor(stdin: Writable, open: () => DirectFile | undefined) {
    this.#stdin = stdin;
    this.#open = open;
  }

  /** An answer is to be waited for before the next part. */
  take(part: Uint8Array): Promise<void> | undefined {
    this.#parts.push(part);
    this.#held += part.length;
    if (this.#held < PIECE_BYTES && this.#parts.length < MAX_PARTS) return undefined;
    if (this.#file === undefined) this.#file = this.#open() ?? null;
    return this.#pass();
  }

  async end(): Promise<void> {
    await this.#pass();
    await this.#file?.written();
  }

  close(): void {
    this.#file?.close();
  }

  async #pass(): Promise<void> {
    const parts = this.#parts;
    this.#parts = [];
    this.#held = 0;
    if (this.#file) return this.#file.write(parts);
    for (const part of parts) {
      if (!this.#stdin.write(part) && !this.#stdin.destroyed)
        await withTimeLimit(drained(this.#stdin), STALL_MS, tooSlow("Writing the file"));
    }
  }
}

function drained(stdin: NodeJS.WritableStream): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      for (const event of ["drain", "close", "error"]) stdin.removeListener(event, done);
      resolve();
    };
    for (const event of ["drain", "close", "error"]) stdin.once(event, done);
  });
}
