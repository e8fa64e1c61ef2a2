/** Whether a sandbox is in use, and when it last was. */
export class Activity {
  #uses = 0;
  #lastActiveAt = Date.now();

  get isBusy(): boolean {
    return this.#uses > 0;
  }

  /** How long ago it was last in use; 0 while it is. */
  get idleMs(): number {
    return this.isBusy ? 0 : Math.max(0, Date.now() - this.#lastActiveAt);
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
