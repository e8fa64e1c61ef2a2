import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from "node:fs";
import type { ProcessFinishReason } from "../contract/process.ts";

/** A process as it was asked for, and what is known of its end. Times are milliseconds since 1970. */
export interface JournaledProcess {
  id: string;
  /** What the runtime finds it again by; absent before it runs. */
  handle?: string;
  /** When its group is killed. */
  killAt?: number;
  /** How much of its input it has been given, while more may come; absent where its input is closed. */
  stdinOffset?: number;
  exit?: { returncode: number; timedOut: boolean; reason: ProcessFinishReason; at: number };
}

/** A line changes what stands before it about the process; `gone` takes it out, `isStdinClosed` the offset. */
type Line = { id: string; gone?: true } & Partial<JournaledProcess> & { isStdinClosed?: true };

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
  #fd: number | undefined;

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

  note(line: Line): void {
    apply(this.#processes, line);
    this.#fd ??= openSync(this.#path, "a", 0o600);
    writeSync(this.#fd, `${JSON.stringify(line)}\n`);
    if (++this.#lines > COMPACT_LINES) this.#compact();
  }

  /** Lets go of the file until there is something to note. */
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #compact(): void {
    this.close();
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
