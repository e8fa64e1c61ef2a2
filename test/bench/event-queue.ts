/** What happens when, the earliest first: a binary heap. */
export class EventQueue<T> {
  readonly #heap: { at: number; item: T }[] = [];

  push(at: number, item: T): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push({ at, item });
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (heap[parent]!.at <= at) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = { at, item };
  }

  /** The first, where it is not later. */
  popUntil(at: number): { at: number; item: T } | undefined {
    const heap = this.#heap;
    const first = heap[0];
    if (!first || first.at > at) return undefined;
    const last = heap.pop()!;
    if (heap.length === 0) return first;
    let index = 0;
    for (let child = 1; child < heap.length; child = 2 * index + 1) {
      if (child + 1 < heap.length && heap[child + 1]!.at < heap[child]!.at) child++;
      if (heap[child]!.at >= last.at) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}
