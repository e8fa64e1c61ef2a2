import { newId } from "../contract/ids.ts";
import { ApiError, FILE_CODES, type ErrorCode } from "../contract/errors.ts";
import { signalOfReturncode } from "../contract/process.ts";
import type { Container, Spawned } from "./runtime.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";

const FIRST_LINE_TIMEOUT_MS = 30_000;
const MAX_LINE_BYTES = 1200;
export const NOT_FOUND_RETURNCODE = 127;
/** Where the launcher is mounted, for images that have no shell. */
export const BUSYBOX = "/.sandbar/busybox";

const FILE_ERRORS = new Set<string>(FILE_CODES);

/** A script of `file-scripts.ts` that runs and has said its first line. */
export interface RunningScript {
  /** The first line, without its end. */
  line: string;
  spawned: Spawned;
  /** What follows the line, paused. */
  bytes: AsyncIterator<Buffer>;
  kill(): void;
}

export interface ScriptOptions {
  /** Kills the script, also once it runs. */
  signal?: AbortSignal | undefined;
  /** Content is to pass its input or its output. */
  isBulk?: boolean;
}

/** Starts a script and reads its first line. Throws the file error that the line names. */
export async function runScript(
  container: Container,
  script: string,
  args: string[],
  { signal, isBulk = false }: ScriptOptions = {},
): Promise<RunningScript> {
  for (const busybox of ["", BUSYBOX]) {
    const shell = busybox ? [busybox, "sh"] : ["/bin/sh"];
    const spawned = await container.spawn({
      process_id: newId("process"),
      command: [...shell, "-c", script, "sh", busybox, ...args],
      env: { LC_ALL: "C" },
      input: "once",
      stderr: "ignore",
      isBulk,
    });
    void spawned.exited.then(() => spawned.release());
    spawned.stdin.on("error", () => {});
    spawned.stderr.stream().resume();
    const stdout = spawned.stdout.stream();
    const kill = () => {
      spawned.kill("SIGKILL").catch(() => {});
      // Whoever waits for a stream goes on, even where a process outside of the group still holds its other end.
      spawned.stdin.destroy();
      stdout.destroy();
    };
    signal?.addEventListener("abort", kill);
    if (signal?.aborted) kill();
    try {
      const bytes: AsyncIterator<Buffer> = stdout[Symbol.asyncIterator]();
      const first = await withTimeLimit(readLine(bytes), FIRST_LINE_TIMEOUT_MS, tooSlow("The sandbox's shell"));
      if (first === undefined) {
        const hasExited = await settlesWithin(spawned.exited, FIRST_LINE_TIMEOUT_MS);
        const returncode = hasExited ? await spawned.exited : undefined;
        if (returncode === NOT_FOUND_RETURNCODE && !busybox) continue;
        throw silent(returncode);
      }
      const fileError = fileErrorOf(first.line);
      if (fileError) throw fileError;
      return { line: first.line, spawned, bytes: withFirst(first.rest, bytes), kill };
    } catch (error) {
      kill();
      throw error;
    }
  }
  throw new ApiError("unsupported_by_backend", { detail: "The image has no shell." });
}

/** What a script that said nothing ended with tells. One that was killed, or went down with its container, might have worked. */
function silent(returncode: number | undefined): ApiError {
  if (returncode === undefined || signalOfReturncode(returncode) !== undefined)
    return new ApiError("backend_unavailable", {
      detail: "The sandbox's shell was ended before it said a word.",
      retryAfter: 1,
    });
  return new ApiError("unsupported_by_backend", {
    detail: "Files need a working /bin/sh in the sandbox, or the launcher.",
  });
}

/** Runs a script that only says a line; the answer is the line. */
export async function runToEnd(container: Container, script: string, args: string[]): Promise<string> {
  const running = await runScript(container, script, args);
  running.spawned.stdin.end();
  if (!(await settlesWithin(running.spawned.exited, FIRST_LINE_TIMEOUT_MS))) running.kill();
  return running.line;
}

/** The error that a script's line names; undefined where it names none. */
export function fileErrorOf(line: string | undefined): ApiError | undefined {
  return line !== undefined && FILE_ERRORS.has(line) ? new ApiError(line as ErrorCode) : undefined;
}

/** The next line, undefined when the stream ends before. */
export async function readLine(
  bytes: AsyncIterator<Buffer>,
): Promise<{ line: string; rest: Buffer | undefined } | undefined> {
  let text: Buffer = Buffer.alloc(0);
  for (;;) {
    const next = await bytes.next();
    if (next.done) return undefined;
    text = text.length === 0 ? next.value : Buffer.concat([text, next.value]);
    const end = text.indexOf("\n");
    if (end >= 0) {
      const rest = text.subarray(end + 1);
      return { line: text.toString("latin1", 0, end), rest: rest.length > 0 ? rest : undefined };
    }
    if (text.length > MAX_LINE_BYTES) return undefined;
  }
}

function withFirst(first: Buffer | undefined, rest: AsyncIterator<Buffer>): AsyncIterator<Buffer> {
  let pending = first;
  return {
    async next() {
      if (!pending) return rest.next();
      const value = pending;
      pending = undefined;
      return { done: false, value };
    },
  };
}
