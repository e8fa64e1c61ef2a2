/** Smaller amounts than these are all of one level; the one below is of those who have nothing. */
const CPU_BASE = 125_000;
const MEMORY_BASE = 128;
const LEVELS = 32;

/**
 * Two levels to an octave: 1, 1.5, 2, 3, 4, 6, 8… times the base. Sizes that people ask for are where a level begins, so that
 * nearly all that is found on the level of a demand has room for it.
 */
function levelOf(bases: number): number {
  if (bases < 1) return bases > 0 ? 1 : 0;
  const octave = 31 - Math.clz32(Math.min(bases, 2 ** 30));
  return Math.min(LEVELS - 1, 2 + 2 * octave + (bases >= 1.5 * 2 ** octave ? 1 : 0));
}

export const cpuLevelOf = (microCores: number) => levelOf(microCores / CPU_BASE);
export const memoryLevelOf = (mebibytes: number) => levelOf(mebibytes / MEMORY_BASE);

/**
 * Hosts of one size by how much is free on them, the fullest first: a grid of cells by levels of cpu and of memory, with a bit for
 * each cell that is not empty (after two-level segregated fit, as allocators know it). Changing and finding take a few steps however
 * many hosts there are.
 */
export class LevelIndex<T> {
  readonly #top: { cpu: number; memory: number };
  readonly #cells = new Map<number, Set<T>>();
  readonly #cellOf = new Map<T, number>();
  /** By level of cpu: which levels of memory are there. And the other way round. */
  readonly #rows: number[] = Array.from({ length: LEVELS }, () => 0);
  readonly #columns: number[] = Array.from({ length: LEVELS }, () => 0);

  constructor(cpu: number, memory: number) {
    this.#top = { cpu: cpuLevelOf(cpu), memory: memoryLevelOf(memory) };
  }

  put(item: T, cpu: number, memory: number): void {
    const cell = cpuLevelOf(cpu) * LEVELS + memoryLevelOf(memory);
    if (this.#cellOf.get(item) === cell) return;
    this.delete(item);
    this.#cellOf.set(item, cell);
    const there = this.#cells.get(cell);
    if (there) return void there.add(item);
    this.#cells.set(cell, new Set([item]));
    const [row, column] = [Math.floor(cell / LEVELS), cell % LEVELS];
    this.#rows[row]! |= 1 << column;
    this.#columns[column]! |= 1 << row;
  }

  delete(item: T): void {
    const cell = this.#cellOf.get(item);
    if (cell === undefined) return;
    this.#cellOf.delete(item);
    const there = this.#cells.get(cell)!;
    there.delete(item);
    if (there.size > 0) return;
    this.#cells.delete(cell);
    const [row, column] = [Math.floor(cell / LEVELS), cell % LEVELS];
    this.#rows[row]! &= ~(1 << column);
    this.#columns[column]! &= ~(1 << row);
  }

  get size(): number {
    return this.#cellOf.size;
  }

  /** Those that may have room for it, the fullest first, until `visit` says that it is enough: then true. */
  visit(cpu: number, memory: number, visit: (item: T) => boolean): boolean {
    const least = { cpu: cpuLevelOf(cpu), memory: memoryLevelOf(memory) };
    const deepest = Math.max(this.#top.cpu - least.cpu, this.#top.memory - least.memory);
    for (let depth = deepest; depth >= 0; depth--) if (this.#visitDepth(depth, least, visit)) return true;
    return false;
  }

  /** The emptiest first. */
  visitEmptiest(visit: (item: T) => boolean): boolean {
    const least = { cpu: 0, memory: 0 };
    for (let depth = 0; depth < LEVELS; depth++) if (this.#visitDepth(depth, least, visit)) return true;
    return false;
  }

  /** Those of which the scarcer of the two is `depth` levels below what an empty host has: one row and one column of cells. */
  #visitDepth(depth: number, least: { cpu: number; memory: number }, visit: (item: T) => boolean): boolean {
    const cpu = this.#top.cpu - depth;
    const memory = this.#top.memory - depth;
    if (cpu >= least.cpu) {
      let bits = this.#rows[cpu]! & (-1 << Math.max(memory, least.memory));
      for (; bits !== 0; bits &= bits - 1) if (this.#visitCell(cpu * LEVELS + lowest(bits), visit)) return true;
    }
    if (memory >= least.memory && cpu + 1 < LEVELS) {
      let bits = this.#columns[memory]! & (-1 << Math.max(cpu + 1, least.cpu));
      for (; bits !== 0; bits &= bits - 1) if (this.#visitCell(lowest(bits) * LEVELS + memory, visit)) return true;
    }
    return false;
  }

  #visitCell(cell: number, visit: (item: T) => boolean): boolean {
    for (const item of this.#cells.get(cell)!) if (visit(item)) return true;
    return false;
  }
}

const lowest = (bits: number) => 31 - Math.clz32(bits & -bits);
