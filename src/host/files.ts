import type { IncomingMessage } from "node:http";
import { ApiError } from "../contract/errors.ts";
import type { ByteRange } from "../contract/byte-range.ts";
import { contentOf, receiveFile, type Measure } from "./file-receive.ts";
import { runScript, runToEnd, type RunningScript } from "./file-script-run.ts";
import { COMMIT_SCRIPT, READ_SCRIPT } from "./file-scripts.ts";
import type { Container } from "./runtime.ts";
import { tooSlow, withTimeLimit } from "./time-limit.ts";

/** Files up to here are read before the answer begins: /sys claims sizes that are not so. */
const SMALL_FILE_BYTES = 65_536;
const COMMIT_TIMEOUT_MS = 120_000;
/** How long a script may pass on nothing. A snapshot may stop it meanwhile. */
const STALL_MS = 60_000;

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
  const script = await runScript(container, READ_SCRIPT, [path, ...scriptRange(range)], { signal, isBulk: true });
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
 * Writes the body to the path, all of it or nothing: a body that breaks off leaves the old file. Throws the file errors.
 */
export async function writeFile(
  container: Container,
  path: string,
  body: IncomingMessage,
  options: Measure & { mode?: string | undefined; signal?: AbortSignal | undefined },
): Promise<void> {
  await receiveFile(container, path, contentOf(body, options), options.signal, async (name, size) => {
    const commit = runToEnd(container, COMMIT_SCRIPT, [path, name, String(size), options.mode ?? ""]);
    const line = await withTimeLimit(commit, COMMIT_TIMEOUT_MS, tooSlow("Putting the file in place"));
    if (line !== "done") throw new Error(`the file was not put in place: ${line}`);
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
