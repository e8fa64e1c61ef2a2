import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { ApiError, FILE_CODES, type ErrorCode } from "../../contract/errors.ts";
import { contentOf, receiveFile, type Measure } from "../file-receive.ts";
import { readLine, runScript, type RunningScript } from "../file-script-run.ts";
import type { Container } from "../runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "../time-limit.ts";
import { PACK_SCRIPT, UNPACK_SCRIPT } from "./archive-scripts.ts";
import { TarCheck } from "./tar-check.ts";

/** How long tar may pass on nothing. A snapshot may stop it meanwhile. */
const STALL_MS = 60_000;
const END_PATIENCE_MS = 10_000;
const UNPACK_TIMEOUT_MS = 600_000;
/** Up to here an archive is held in memory: what is unpacked from there need not be written first. */
const SMALL_ARCHIVE_BYTES = 8 * 1_048_576;
/** Where a larger one waits to be unpacked: whoever watches the directory that it goes to sees nothing of it. */
const ARCHIVE_DIR = "/tmp";

const FILE_ERRORS = new Set<string>(FILE_CODES);

export interface OpenedArchive {
  /** The next bytes; undefined behind the last. Throws when the archive is not whole. */
  next(): Promise<Buffer | undefined>;
  /** Ends it early. */
  close(): void;
}

/** Packs what a directory holds, or a file. The signal ends it. Throws the file errors. */
export async function openArchive(container: Container, path: string, signal: AbortSignal): Promise<OpenedArchive> {
  const script = await begin(container, PACK_SCRIPT, [path], signal);
  return {
    async next() {
      const { value, done } = await withTimeLimit(script.bytes.next(), STALL_MS, tooSlow("Reading the files"));
      if (!done) return value;
      const hasExited = await settlesWithin(script.spawned.exited, END_PATIENCE_MS);
      const returncode = hasExited ? await script.spawned.exited : undefined;
      if (returncode !== 0) throw new Error(`tar ended with ${returncode}: the archive is not whole`);
      return undefined;
    },
    close: script.kill,
  };
}

/**
 * Unpacks the body, a tar archive that is not compressed, into the directory, which is made if it is not there. Before it has come whole
 * nothing changes: until then a small one is held here, a larger one as a file of the container. Throws the file errors.
 */
export async function writeArchive(
  container: Container,
  path: string,
  body: IncomingMessage,
  options: Measure & { signal?: AbortSignal | undefined },
): Promise<void> {
  const content = checked(contentOf(body, options));
  const head: Uint8Array[] = [];
  let held = 0;
  for (;;) {
    const { value, done } = await content.next();
    if (done) return unpack(container, [path, "-", String(held)], head);
    head.push(value);
    held += value.length;
    if (held > SMALL_ARCHIVE_BYTES) break;
  }
  // The path itself is never made: only what stands beside it.
  const beside = `${ARCHIVE_DIR}/.sandbar-${randomBytes(12).toString("hex")}.tar`;
  await receiveFile(container, beside, behind(head, content), options.signal, (name, size) =>
    unpack(container, [path, `${ARCHIVE_DIR}/${name}`, String(size)], []),
  );
}

/** The content, once it is known to be an archive. */
async function* checked(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
  const check = new TarCheck();
  for await (const part of content) {
    check.push(part);
    yield part;
  }
  check.end();
}

async function* behind(head: Uint8Array[], rest: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (let part = head.shift(); part; part = head.shift()) yield part;
  yield* rest;
}

async function unpack(container: Container, args: string[], input: Uint8Array[]): Promise<void> {
  const script = await begin(container, UNPACK_SCRIPT, args, undefined, input);
  const last = await withTimeLimit(readLine(script.bytes), UNPACK_TIMEOUT_MS, tooSlow("Unpacking")).finally(
    script.kill,
  );
  const line = last?.line ?? "";
  if (FILE_ERRORS.has(line)) throw new ApiError(line as ErrorCode);
  if (line === "unreadable") {
    throw new ApiError("invalid_request", { detail: "The sandbox's tar does not unpack all of the archive." });
  }
  if (line !== "done") throw new Error(`the archive was not unpacked: ${line}`);
}

/** Starts a script that says `ready` first, and gives it the input. */
async function begin(
  container: Container,
  source: string,
  args: string[],
  signal?: AbortSignal,
  input: Uint8Array[] = [],
): Promise<RunningScript> {
  const script = await runScript(container, source, args, { signal, isBulk: true });
  for (const part of input) script.spawned.stdin.write(part);
  script.spawned.stdin.end();
  if (script.line === "ready") return script;
  script.kill();
  if (script.line !== "no_tar") throw new Error(`the script of an archive is not ready: ${script.line}`);
  throw new ApiError("unsupported_by_backend", { detail: "Archives need a tar in the sandbox, or the launcher." });
}
