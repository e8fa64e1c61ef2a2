/** Whether a sandbox is in use, and when it last was. */
export class Activity {
  #uses = 0;
  #lastActiveAt = Date.now();

  get isBusy(): boolean {
    return this.#uses > 0;
  }

  /** Milliseconds since 1970. */
  get lastActiveAt(): number {
    return this.isBusy ? Date.now() : this.#lastActiveAt;
  }

  /** Counts as use until the answer is called (once). */
  begin(): () => void {
    this.#uses++;
    return () => {
      this.#uses--;
      this.#lastActiveAt = Date.now();
    };
  }
}
