/** Hosts by a small whole number, as that of their holdings. */
export class CountIndex<T> {
  readonly #at: Set<T>[] = [];
  readonly #countOf = new Map<T, number>();

  put(item: T, count: number): void {
    if (this.#countOf.get(item) === count) return;
    this.delete(item);
    this.#countOf.set(item, count);
    while (this.#at.length <= count) this.#at.push(new Set());
    this.#at[count]!.add(item);
  }

  delete(item: T): void {
    const count = this.#countOf.get(item);
    if (count === undefined) return;
    this.#countOf.delete(item);
    this.#at[count]!.delete(item);
  }

  /** The lowest first, until `visit` says that it is enough. */
  visit(visit: (item: T) => boolean): void {
    for (const items of this.#at) for (const item of items) if (visit(item)) return;
  }
}
