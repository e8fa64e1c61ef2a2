import { LevelIndex } from "./level-index.ts";

/** Hosts of one size by how many of their devices are free, and those of one number by what else is free on them. */
export class GpuIndex<T> {
  readonly #cpu: number;
  readonly #memory: number;
  /** By number of free devices; none where no host has so many. */
  readonly #at: (LevelIndex<T> | undefined)[];
  readonly #countOf = new Map<T, number>();

  /** Of hosts with so much, when they are empty. */
  constructor(cpu: number, memory: number, devices: number) {
    this.#cpu = cpu;
    this.#memory = memory;
    this.#at = Array.from({ length: devices + 1 }, () => undefined);
  }

  put(item: T, free: number, cpu: number, memory: number): void {
    const before = this.#countOf.get(item);
    if (before !== free) {
      this.delete(item);
      this.#countOf.set(item, free);
    }
    (this.#at[free] ??= new LevelIndex<T>(this.#cpu, this.#memory)).put(item, cpu, memory);
  }

  delete(item: T): void {
    const free = this.#countOf.get(item);
    if (free === undefined) return;
    this.#countOf.delete(item);
    const there = this.#at[free]!;
    there.delete(item);
    if (there.size === 0) this.#at[free] = undefined;
  }

  /** Those with at least so many free that may have room, the fewest first, until `visit` says that it is enough. */
  visit(least: number, cpu: number, memory: number, visit: (item: T) => boolean): void {
    for (let free = least; free < this.#at.length; free++) if (this.#at[free]?.visit(cpu, memory, visit)) return;
  }

  /** Those with the most free first, and of these the emptiest. */
  visitEmptiest(visit: (item: T) => boolean): void {
    for (let free = this.#at.length - 1; free >= 0; free--) if (this.#at[free]?.visitEmptiest(visit)) return;
  }
}
