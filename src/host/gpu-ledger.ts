import { ApiError } from "../contract/errors.ts";
import type { Start } from "./start-files.ts";

export interface GpuLedgerOptions {
  /** The UUIDs of the devices that this machine has now. */
  present: () => readonly string[];
  /** Devices are free again. */
  onFree?: () => void;
}

/** `isWarm`: a warm container, by its own id: it gives way to any sandbox. */
interface Hold {
  holder: Start;
  uuids: readonly string[];
  isWarm: boolean;
}

/**
 * Which container has which GPU: the last defence against two that share one, whatever the control plane says. A device is held from
 * before the start until nothing of the container is left.
 */
export class GpuLedger {
  readonly #options: GpuLedgerOptions;
  readonly #holds = new Map<Start, Hold>();

  constructor(options: GpuLedgerOptions) {
    this.#options = options;
  }

  /**
   * Throws `conflict`, and takes nothing, unless all of them are here and no other sandbox's. Warm containers may have them still: see
   * `warmHolders`. The answer frees them: nothing of the container is left.
   */
  take(holder: Start, uuids: readonly string[]): () => void {
    this.#require(uuids, ({ isWarm }) => !isWarm);
    return this.adopt(holder, uuids);
  }

  /** The same of a container that an earlier daemon started: what it has, it has. */
  adopt(holder: Start, uuids: readonly string[]): () => void {
    return this.#hold({ holder, uuids, isWarm: false });
  }

  /** The same for a warm container, which is given only what nobody has. */
  takeWarm(warmId: string, uuids: readonly string[]): () => void {
    this.#require(uuids, () => true);
    return this.adoptWarm(warmId, uuids);
  }

  adoptWarm(warmId: string, uuids: readonly string[]): () => void {
    return this.#hold({ holder: { sandboxId: warmId, generation: 0 }, uuids, isWarm: true });
  }

  /** The warm containers that have any of these devices. */
  warmHolders(uuids: readonly string[] = []): string[] {
    const holding = this.#all().filter((hold) => hold.isWarm && hold.uuids.some((uuid) => uuids.includes(uuid)));
    return holding.map(({ holder }) => holder.sandboxId);
  }

  heldBy(holder: Start): readonly string[] {
    return this.#holds.get(holder)?.uuids ?? [];
  }

  /** Those that are no warm containers. */
  holders(): Start[] {
    return this.#all().flatMap(({ holder, isWarm }) => (isWarm ? [] : [holder]));
  }

  #require(uuids: readonly string[], isInTheWay: (hold: Hold) => boolean): void {
    if (new Set(uuids).size < uuids.length) throw new ApiError("conflict", { detail: "A GPU is asked for twice." });
    const present = new Set(this.#options.present());
    for (const uuid of uuids) {
      if (!present.has(uuid)) throw new ApiError("conflict", { detail: `This host has no GPU ${uuid}.` });
      const other = this.#all().find((hold) => hold.uuids.includes(uuid) && isInTheWay(hold));
      if (other) throw new ApiError("conflict", { detail: `The GPU ${uuid} is in use by ${other.holder.sandboxId}.` });
    }
  }

  #hold(hold: Hold): () => void {
    if (hold.uuids.length > 0) this.#holds.set(hold.holder, hold);
    return () => {
      if (this.#holds.delete(hold.holder)) this.#options.onFree?.();
    };
  }

  #all(): Hold[] {
    return [...this.#holds.values()];
  }
}
