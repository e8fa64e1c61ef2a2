import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from "node:fs";
import type { Exit } from "../process/observed-process.ts";

/** A process as it was asked for, and what is known of its end. Times are milliseconds since 1970. */
export interface JournaledProcess {
  id: string;
  /** What the runtime finds it again by; absent before it runs. */
  handle?: string;
  /** True where a launcher starts it, if there is one: never the engine itself. */
  isPlain?: boolean;
  /** A readiness probe: nobody asks for it any more once this daemon has gone. */
  isProbe?: boolean;
  /** When its group is killed. */
  killAt?: number;
  /** How much of its input it has been given, while more may come; absent where its input is closed. */
  stdinOffset?: number;
  exit?: Exit;
}

/** A line changes what stands before it about the process; `gone` takes it out, `isStdinClosed` the offset. */
type Line = { id: string; gone?: true } & Partial<JournaledProcess> & { isStdinClosed?: true };

const RETRY_MS = 1_000;
/** More lines than this, and the file is written anew with what still matters. */
const COMPACT_LINES = 20_000;

/**
 * What the daemon must know of the processes of a sandbox after a `kill -9` of itself: a file of JSON lines, each written
 * before what it tells of is acknowledged to anybody.
 */
export class Journal {
  readonly #path: string;
  readonly #processes: Map<string, JournaledProcess>;
  #lines: number;
  /** Lines that a full disk did not take; what they tell of has happened all the same. */
  #unwritten = "";
  #retry: NodeJS.Timeout | undefined;
  #fd: number | undefined;
  #isTorn = false;

  /** Takes up the file where it is there. */
  constructor(path: string) {
    this.#path = path;
    const lines = readLines(path);
    this.#processes = fold(lines);
    this.#lines = lines.length;
  }

  /** All that is known, oldest first. */
  get processes(): JournaledProcess[] {
    return [...this.#processes.values()];
  }

  /** Of something that has happened. On a full disk it is kept in memory, and written as soon as there is room. */
  note(line: Line): void {
    apply(this.#processes, line);
    this.#unwritten += `${JSON.stringify(line)}\n`;
    try {
      this.#flush();
      if (++this.#lines > COMPACT_LINES) this.#compact();
    } catch (error) {
      this.#retryLater(error);
    }
  }

  /** Of something that is about to happen. Throws, and has noted nothing, when that cannot be written. */
  announce(line: Line): void {
    this.#flush();
    this.#unwritten = `${JSON.stringify(line)}\n`;
    try {
      this.#flush();
    } catch (error) {
      this.#unwritten = "";
      throw error;
    }
    apply(this.#processes, line);
  }

  #flush(): void {
    if (this.#unwritten === "") return;
    this.#fd ??= openSync(this.#path, "a", 0o600);
    // A line that was written in part before is ended: it counts for nothing.
    const text = this.#isTorn ? `\n${this.#unwritten}` : this.#unwritten;
    const bytes = Buffer.from(text);
    this.#isTorn = true;
    if (writeSync(this.#fd, bytes) < bytes.length)
      throw Object.assign(new Error("The disk is full."), { code: "ENOSPC" });
    this.#isTorn = false;
    this.#unwritten = "";
  }

  #retryLater(error: unknown): void {
    if (this.#retry) return;
    console.error("sandbar host: the journal of a sandbox waits for room on the disk:", String(error));
    this.#retry = setInterval(() => {
      try {
        this.#flush();
        clearInterval(this.#retry);
        this.#retry = undefined;
      } catch {
        // Still none.
      }
    }, RETRY_MS).unref();
  }

  /** Lets go of the file until there is something to note. */
  close(): void {
    if (this.#retry) return;
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #compact(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
    const text = this.processes.map((process) => `${JSON.stringify(process)}\n`).join("");
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600 });
    renameSync(`${this.#path}.new`, this.#path);
    this.#lines = this.#processes.size;
  }
}

function readLines(path: string): Line[] {
  let text = "";
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return text.split("\n").flatMap((line) => {
    try {
      return line === "" ? [] : [JSON.parse(line) as Line];
    } catch {
      // The last line of a daemon that was killed, or of a disk that was full.
      return [];
    }
  });
}

function fold(lines: Line[]): Map<string, JournaledProcess> {
  const processes = new Map<string, JournaledProcess>();
  for (const line of lines) apply(processes, line);
  return processes;
}

function apply(processes: Map<string, JournaledProcess>, { gone, isStdinClosed, ...changes }: Line): void {
  if (gone) return void processes.delete(changes.id);
  const process: JournaledProcess = { ...processes.get(changes.id), ...changes };
  if (isStdinClosed) delete process.stdinOffset;
  processes.set(changes.id, process);
}
