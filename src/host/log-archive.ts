import { readdirSync, rmSync } from "node:fs";
import { idSchema } from "../contract/ids.ts";
import { Activity } from "../process/activity.ts";
import type { Pump } from "./logs/pump.ts";
import type { ProcessTableOptions } from "./process-table-options.ts";
import { ProcessTable } from "./processes.ts";

/** How long what a sandbox's processes said can be read after its end. */
const KEEP_MS = 3_600_000;
/** Beyond so many ended sandboxes, or so many bytes of theirs, the oldest go earlier. */
const MAX_SANDBOXES = 2_000;
const MAX_BYTES = 4 * 1024 * 1024 * 1024;

const SandboxIdSchema = idSchema("sandbox");

export interface ArchiveOptions extends ProcessTableOptions {
  /** Where the logs of every sandbox have a folder, `<sandbox id>.<generation>`. */
  logsDir: string;
  pump: Pump;
}

/** The folders of logs, and the logs of sandboxes that are no more. */
export class LogArchive {
  readonly #options: ArchiveOptions;
  readonly #tables = new Map<string, { table: ProcessTable; forgetAt: number }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ArchiveOptions) {
    this.#options = options;
  }

  /** The table of a container, with what an earlier daemon may have left of it. */
  open(sandboxId: string, generation: number, activity: Activity): ProcessTable {
    const { logsDir, pump } = this.#options;
    return new ProcessTable({ folder: `${logsDir}/${sandboxId}.${generation}`, pump, activity }, this.#options);
  }

  get(sandboxId: string): ProcessTable | undefined {
    return this.#tables.get(sandboxId)?.table;
  }

  /** Keeps the table of a sandbox that has ended. */
  keep(sandboxId: string, table: ProcessTable): void {
    this.#remove(sandboxId);
    table.rest();
    this.#tables.set(sandboxId, { table, forgetAt: Date.now() + KEEP_MS });
    this.#sweep();
  }

  /** Keeps what an earlier daemon left of sandboxes that are no more: all but those named, as folders are. */
  async recover(live: ReadonlySet<string>): Promise<void> {
    for (const name of foldersIn(this.#options.logsDir)) {
      if (live.has(name)) continue;
      const [sandboxId, generation] = name.split(".") as [string, string | undefined];
      if (!SandboxIdSchema.safeParse(sandboxId).success || !/^\d+$/.test(generation ?? "")) continue;
      const table = this.open(sandboxId, Number(generation), new Activity());
      await table.recover(undefined);
      this.keep(sandboxId, table);
    }
  }

  /** Removes all of it, also what nobody keeps. */
  clear(): void {
    this.close();
    for (const sandboxId of this.#tables.keys()) this.#remove(sandboxId);
    rmSync(this.#options.logsDir, { recursive: true, force: true });
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #remove(sandboxId: string): void {
    this.#tables.get(sandboxId)?.table.remove();
    this.#tables.delete(sandboxId);
  }

  #sweep(): void {
    let bytes = [...this.#tables.values()].reduce((sum, { table }) => sum + table.keptBytes, 0);
    for (const [sandboxId, { table, forgetAt }] of this.#tables) {
      const isOver = this.#tables.size > MAX_SANDBOXES || bytes > MAX_BYTES;
      if (forgetAt > Date.now() && !isOver) break;
      bytes -= table.keptBytes;
      this.#remove(sandboxId);
    }
    clearTimeout(this.#timer);
    const next = this.#tables.values().next().value;
    if (next) this.#timer = setTimeout(() => this.#sweep(), Math.max(1_000, next.forgetAt - Date.now())).unref();
  }
}

function foldersIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
