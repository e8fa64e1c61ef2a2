import type { GpuDevice } from "../../contract/gpu.ts";
import type { Capacity } from "../../contract/host-info.ts";
import type { Runtime } from "../runtime.ts";
import { Disk } from "./disk.ts";
import { withTimeLimit } from "../time-limit.ts";
import { askNvidiaSmi, TIMEOUT_MS, type SeenGpus } from "./nvidia-smi.ts";

const REFRESH_MS = 60_000;
/** How long a program that was killed may take to end. */
const END_MS = 2_000;
/** Most sandboxes idle most of the time. */
export const DEFAULT_CPU_OVERCOMMIT = 16;

/** What the operator promises of the machine, in place of what it has. */
export interface Promised {
  /** How many times its cores the sandboxes may ask for together; at least 1. */
  cpuOvercommit?: number | undefined;
  /** MiB; also more than there is. */
  memory?: number | undefined;
}

export interface InventoryOptions {
  runtime: Pick<Runtime, "resources" | "whyNoGpus">;
  promised?: Promised | undefined;
  log?: (line: string) => void;
  /** How long `nvidia-smi` is waited for. */
  timeoutMs?: number;
}

/** What this machine has for sandboxes, as it is now: a device that falls off the bus is soon no longer in it. */
export class Inventory {
  readonly #options: InventoryOptions;
  readonly #log: (line: string) => void;
  readonly #disk: Disk;
  #diskTotal = 0;
  #gpus: GpuDevice[] = [];
  /** Whether containers can have devices; undefined until there were some to ask about. */
  #givesGpus: boolean | undefined;
  #trouble: string | undefined;
  #isRefreshing = false;
  #asked: Promise<SeenGpus> | undefined;
  #timer: NodeJS.Timeout | undefined;

  private constructor(options: InventoryOptions) {
    this.#options = options;
    this.#log = options.log ?? ((line) => console.error(`sandbar host: ${line}`));
    this.#disk = new Disk(options.runtime.resources.diskDir);
  }

  /** Looks at the machine now, and every minute until `close`. */
  static async take(options: InventoryOptions): Promise<Inventory> {
    const inventory = new Inventory(options);
    await inventory.refresh();
    inventory.#timer = setInterval(() => void inventory.refresh(), REFRESH_MS).unref();
    return inventory;
  }

  get capacity(): Capacity {
    const { runtime, promised } = this.#options;
    return {
      cpu: runtime.resources.cpu,
      cpu_overcommit: promised?.cpuOvercommit ?? DEFAULT_CPU_OVERCOMMIT,
      memory: promised?.memory ?? runtime.resources.memory,
      disk: this.#diskTotal,
      gpus: this.#gpus,
    };
  }

  /** Whether sandboxes can be given GPUs, of which there may be none just now. */
  get givesGpus(): boolean {
    return this.#givesGpus ?? false;
  }

  /** MiB; undefined where that cannot be known. */
  async diskFree(): Promise<number | undefined> {
    return (await this.#disk.room())?.free;
  }

  /** Never rejects. */
  async refresh(): Promise<void> {
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    try {
      this.#diskTotal = (await this.#disk.room())?.total ?? this.#diskTotal;
      const { devices, trouble } = await this.#ask();
      this.#note(trouble);
      if (devices.length > 0) this.#givesGpus ??= await this.#canGive(devices);
      this.#gpus = this.#givesGpus ? devices : [];
    } finally {
      this.#isRefreshing = false;
    }
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** One that hangs is waited for, and not asked anew: what its driver has is not offered meanwhile. */
  async #ask(): Promise<SeenGpus> {
    const timeoutMs = this.#options.timeoutMs ?? TIMEOUT_MS;
    this.#asked ??= askNvidiaSmi(timeoutMs).finally(() => (this.#asked = undefined));
    return withTimeLimit(this.#asked, timeoutMs + END_MS, () => new Error("late")).catch(() => ({
      devices: [],
      trouble: "it hangs, and cannot be ended",
    }));
  }

  async #canGive(devices: GpuDevice[]): Promise<boolean | undefined> {
    const uuids = devices.map(({ uuid }) => uuid);
    try {
      const reason = await this.#options.runtime.whyNoGpus(uuids);
      if (reason !== undefined) this.#log(`no sandbox gets a GPU, though nvidia-smi lists ${uuids.length}: ${reason}`);
      return reason === undefined;
    } catch (error) {
      this.#log(`whether sandboxes can have GPUs is asked again later: ${String(error)}`);
      return undefined;
    }
  }

  /** Says once what changed. */
  #note(trouble: string | undefined): void {
    if (trouble !== undefined && trouble !== this.#trouble) this.#log(`nvidia-smi does not list all GPUs: ${trouble}`);
    this.#trouble = trouble;
  }
}
