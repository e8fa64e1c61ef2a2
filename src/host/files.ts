import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { EndMarkerCheck } from "../contract/end-marker.ts";
import { ApiError } from "../contract/errors.ts";
import type { ByteRange } from "../contract/byte-range.ts";
import { readLine, runScript, runToEnd, type RunningScript } from "./file-script-run.ts";
import { COMMIT_SCRIPT, DISCARD_SCRIPT, READ_SCRIPT, RECEIVE_SCRIPT } from "./file-scripts.ts";
import type { Container } from "./runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";

/** Files up to here are read before the answer begins: /sys claims sizes that are not so. */
const SMALL_FILE_BYTES = 65_536;
const COMMIT_TIMEOUT_MS = 120_000;
/** How long a script may pass on nothing. A snapshot may stop it meanwhile. */
const STALL_MS = 60_000;
/** How long the removal of what a failed write left is waited for. */
const DISCARD_PATIENCE_MS = 5_000;

export interface OpenedFile {
  /** Bytes of the whole file; undefined where the file does not say (/proc). */
  size: number | undefined;
  /** What of it `chunks` holds, both ends included, when a range was asked for. */
  range: { first: number; last: number } | undefined;
  /** How many bytes `chunks` must hold, where it is known. */
  length: number | undefined;
  chunks: AsyncIterable<Buffer>;
  /** Ends it early. */
  close(): void;
}

/** Opens a file of the container; the signal ends it. Throws the file errors and `range_not_satisfiable`. */
export async function openFile(
  container: Container,
  path: string,
  range: ByteRange | undefined,
  signal: AbortSignal,
): Promise<OpenedFile> {
  const script = await runScript(container, READ_SCRIPT, [path, ...scriptRange(range)], signal);
  try {
    script.spawned.stdin.end();
    const size = Number(/^file (\d+)$/.exec(script.line)?.[1]);
    if (!Number.isSafeInteger(size)) throw new Error(`a file of which size? ${script.line}`);
    if (size === 0) return await openSizeless(script, range);
    const resolved = range && resolveRange(range, size);
    const length = resolved ? resolved.last - resolved.first + 1 : size;
    if (length > SMALL_FILE_BYTES) return opened(script, size, resolved, length);
    const content = await take(script, length);
    // The size was a claim; this is the content.
    const isWhole = content.length === length;
    return inMemory(
      content,
      isWhole || resolved ? size : content.length,
      isWhole ? resolved : shorter(resolved, content),
    );
  } catch (error) {
    script.kill();
    throw error;
  }
}

/**
 * Writes the body to the path, all of it or nothing: a body that breaks off leaves the old file.
 * `size` is what the body must measure; the signal ends the reading of it. Throws the file errors.
 */
export async function writeFile(
  container: Container,
  path: string,
  body: IncomingMessage,
  options: {
    size?: number | undefined;
    endMarker?: string | undefined;
    mode?: string | undefined;
    signal?: AbortSignal | undefined;
  },
): Promise<void> {
  const name = `.sandbar-${randomBytes(12).toString("hex")}`;
  const script = await runScript(container, RECEIVE_SCRIPT, [path, name], options.signal);
  try {
    const received = await pour(body, script, options.endMarker);
    if (options.size !== undefined && received !== options.size) {
      throw new ApiError("invalid_request", { detail: `The body has ${received} bytes, not ${options.size}.` });
    }
    const commit = runToEnd(container, COMMIT_SCRIPT, [path, name, String(received), options.mode ?? ""]);
    const line = await withTimeLimit(commit, COMMIT_TIMEOUT_MS, tooSlow("Putting the file in place"));
    if (line !== "done") throw new Error(`the file was not put in place: ${line}`);
  } catch (error) {
    script.kill();
    await settlesWithin(script.spawned.exited, DISCARD_PATIENCE_MS);
    await settlesWithin(runToEnd(container, DISCARD_SCRIPT, [path, name]), DISCARD_PATIENCE_MS);
    throw error;
  }
}

/** Hands the body to the script's stdin; done when the script has kept all of it. The answer is its length. */
async function pour(body: IncomingMessage, script: RunningScript, endMarker: string | undefined): Promise<number> {
  const { stdin } = script.spawned;
  const kept = readLine(script.bytes);
  kept.catch(() => {});
  const check = endMarker === undefined ? undefined : new EndMarkerCheck(endMarker);
  let received = 0;
  let hasStopped = false;
  // A script that speaks early has failed: whoever waits for its stdin need not.
  const stop = () => {
    hasStopped = true;
    stdin.destroy();
  };
  kept.then(stop, stop);
  // The request must survive, to be answered.
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    if (hasStopped || stdin.destroyed) break;
    for (const part of check ? check.push(chunk) : [chunk]) {
      received += part.length;
      if (!stdin.write(part) && !stdin.destroyed)
        await withTimeLimit(drained(stdin), STALL_MS, tooSlow("Writing the file"));
    }
  }
  const isWhole = body.complete && (check?.isWhole ?? true);
  if (!hasStopped && !stdin.destroyed && !isWhole) {
    throw new ApiError("invalid_request", { detail: "The body broke off." });
  }
  stdin.end();
  const line = (await withTimeLimit(kept, COMMIT_TIMEOUT_MS, tooSlow("Writing the file")))?.line;
  if (line === "disk_full" || line === "permission_denied") throw new ApiError(line);
  if (line !== "kept" || !body.readableEnded) throw new Error("the file was not written");
  return received;
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

function scriptRange(range: ByteRange | undefined): [string, string] {
  if (!range) return ["", ""];
  if ("suffix" in range) return ["-", String(range.suffix)];
  return [String(range.first), range.last === undefined ? "" : String(range.last - range.first + 1)];
}

function resolveRange(range: ByteRange, size: number): { first: number; last: number } {
  const first = "suffix" in range ? Math.max(0, size - range.suffix) : range.first;
  const last = "suffix" in range ? size - 1 : Math.min(range.last ?? size - 1, size - 1);
  if (first > last) throw new ApiError("range_not_satisfiable", { extra: { size } });
  return { first, last };
}

/** An empty file, or one that does not tell its size: the first byte decides. */
async function openSizeless(script: RunningScript, range: ByteRange | undefined): Promise<OpenedFile> {
  const first = await nextChunk(script);
  if (!first.done) return opened(script, undefined, undefined, undefined, first.value);
  if (range) throw new ApiError("range_not_satisfiable", { extra: { size: 0 } });
  return inMemory(Buffer.alloc(0), 0, undefined);
}

function opened(
  script: RunningScript,
  size: number | undefined,
  range: OpenedFile["range"],
  length: number | undefined,
  first?: Buffer,
): OpenedFile {
  async function* chunks() {
    let left = length ?? Infinity;
    if (first) yield first;
    for (let next = await nextChunk(script); !next.done; next = await nextChunk(script)) {
      const chunk = next.value.subarray(0, left);
      left -= chunk.length;
      yield chunk;
      if (left === 0) break;
    }
  }
  return { size, range, length, chunks: chunks(), close: script.kill };
}

function inMemory(content: Buffer, size: number, range: OpenedFile["range"]): OpenedFile {
  async function* chunks() {
    if (content.length > 0) yield content;
  }
  return { size, range, length: content.length, chunks: chunks(), close: () => {} };
}

function shorter(range: OpenedFile["range"], content: Buffer): OpenedFile["range"] {
  if (!range) return undefined;
  if (content.length === 0) throw new ApiError("range_not_satisfiable");
  return { first: range.first, last: range.first + content.length - 1 };
}

function nextChunk(script: RunningScript): Promise<IteratorResult<Buffer>> {
  return withTimeLimit(script.bytes.next(), STALL_MS, tooSlow("Reading the file"));
}

async function take(script: RunningScript, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let size = 0;
  while (size < length) {
    const next = await nextChunk(script);
    if (next.done) break;
    parts.push(next.value);
    size += next.value.length;
  }
  if (size >= length) script.kill();
  return Buffer.concat(parts).subarray(0, length);
}
