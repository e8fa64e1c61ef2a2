import type { WatchEvent } from "../../contract/file.ts";

/** Several changes of one file within this time are one. */
const MODIFY_MS = 100;
/** More than this at a time is not told one by one. */
export const MAX_EVENTS = 10_000;

/** What is to be told of a watch. Paths are those of the client. */
export class Teller {
  #events: WatchEvent[] = [];
  /** When it is to be told that a path was modified; the earliest first. */
  readonly #modified = new Map<string, number>();
  #isOverfull = false;

  create(path: string): void {
    this.#tellModified(path);
    this.#tell({ event: "create", path });
  }

  modify(path: string, now: number): void {
    if (this.#modified.has(path)) return;
    this.#modified.set(path, now + MODIFY_MS);
    if (this.#modified.size > MAX_EVENTS) this.overflow();
  }

  remove(path: string): void {
    this.#modified.delete(path);
    this.#tell({ event: "remove", path });
  }

  rename(from: string, path: string): void {
    // What was modified is told of by the names of before.
    for (const modified of this.#modified.keys()) this.#tellModified(modified);
    this.#tell({ event: "rename", path, from });
  }

  overflow(): void {
    this.#modified.clear();
    this.#events = [];
    this.#isOverfull = true;
  }

  /** When `take` must be asked again, if nothing happens before. */
  get dueAt(): number {
    for (const dueAt of this.#modified.values()) return dueAt;
    return Infinity;
  }

  /** All that is to be told by now. `isLast`: what is pending, too. */
  take(now: number, isLast = false): WatchEvent[] {
    for (const [path, dueAt] of this.#modified) {
      if (dueAt > now && !isLast) break;
      this.#tellModified(path);
    }
    const events: WatchEvent[] = this.#isOverfull ? [{ event: "overflow" }, ...this.#events] : this.#events;
    this.#events = [];
    this.#isOverfull = false;
    return events;
  }

  #tellModified(path: string): void {
    if (this.#modified.delete(path)) this.#tell({ event: "modify", path });
  }

  #tell(event: WatchEvent): void {
    this.#events.push(event);
    if (this.#events.length > MAX_EVENTS) this.overflow();
  }
}
