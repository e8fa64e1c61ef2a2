import type { ProcessStatus } from "../contract/host-protocol.ts";
import { MAIN_PROCESS_ID } from "../contract/ids.ts";
import { isLive } from "../contract/sandbox.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { endedWithSandbox, hasEnded, withStatus } from "./process-record.ts";
import type { SandboxStore } from "./store.ts";

/** How long the host of an ended sandbox is waited for. */
const ASK_MS = 2000;

/** What becomes of the processes when their sandbox ends. */
export class ProcessesAtEnd {
  readonly #store: SandboxStore;
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  #settling: Promise<void> | undefined;
  /** Those that the end of the sandbox took down: they may have written until they were gone. */
  #takenDown: string[] = [];

  constructor(store: SandboxStore, lifecycle: Lifecycle, host: HostLink) {
    this.#store = store;
    this.#lifecycle = lifecycle;
    this.#host = host;
  }

  /** Writes down how every process that is still recorded as running ended. Does nothing while the sandbox lives. */
  settle(): Promise<void> {
    this.#settling ??= this.#settle().finally(() => {
      this.#settling = undefined;
    });
    return this.#settling;
  }

  async #settle(): Promise<void> {
    const sandbox = this.#lifecycle.record;
    if (!sandbox || isLive(sandbox.state) || this.#store.runningProcesses().length === 0) return;
    const statuses = await this.#ask();
    for (const process of this.#store.runningProcesses()) {
      const status = statuses.get(process.processId);
      const isMain = process.processId === MAIN_PROCESS_ID;
      if (!status && !process.isConfirmed) {
        this.#store.removeProcess(process.processId);
        continue;
      }
      const seen = status ? withStatus(process, status) : process;
      const isOver = hasEnded(seen) && !isMain;
      this.#store.updateProcess(isOver ? seen : endedWithSandbox(seen, sandbox.end!, sandbox.finishedAt!));
      if (!isOver) this.#takenDown.push(process.processId);
    }
  }

  /** The host has removed the container: how much those that went down with it have written is final. */
  async recount(): Promise<void> {
    const ids = this.#takenDown.splice(0);
    if (ids.length === 0) return;
    const statuses = await this.#ask();
    for (const id of ids) {
      const process = this.#store.process(id);
      const status = statuses.get(id);
      if (!process || !status) continue;
      const { stdout_bytes, stderr_bytes } = status;
      this.#store.updateProcess({ ...process, last: { ...process.last, stdout_bytes, stderr_bytes } });
    }
  }

  /** What the host says, once and not for long: an ended sandbox's host may be gone. */
  async #ask(): Promise<Map<string, ProcessStatus>> {
    const nothing: ProcessStatus[] = [];
    const over = new Promise<ProcessStatus[]>((resolve) => setTimeout(() => resolve(nothing), ASK_MS));
    const ask = async () => this.#host.open().processes();
    const statuses = await Promise.race([ask().catch(() => nothing), over]);
    return new Map(statuses.map((status) => [status.process_id, status]));
  }
}
