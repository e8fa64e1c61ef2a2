import type { Exit } from "../../process/observed-process.ts";

/** The end of a process: to be waited for, and to be listened for. */
export class ProcessEnd {
  readonly #ended = Promise.withResolvers<void>();
  readonly #listeners = new Set<() => void>();
  #exit: Exit | undefined;

  get exit(): Exit | undefined {
    return this.#exit;
  }

  get reached(): Promise<void> {
    return this.#ended.promise;
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  reach(exit: Exit): void {
    this.#exit = exit;
    this.#ended.resolve();
    for (const listener of this.#listeners) listener();
  }
}
