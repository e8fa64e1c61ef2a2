/** Work that is done once, however many ask for it under the same key at the same time. */
export class Joined<T> {
  readonly #underWay = new Map<string, Promise<T>>();

  run(key: string, work: () => Promise<T>): Promise<T> {
    const running =
      this.#underWay.get(key) ??
      work().finally(() => {
        this.#underWay.delete(key);
      });
    this.#underWay.set(key, running);
    return running;
  }

  /** What is under way, if it is. */
  get(key: string): Promise<T> | undefined {
    return this.#underWay.get(key);
  }
}
