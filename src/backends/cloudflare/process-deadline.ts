/** How long a killed process may take to go. */
const LAST_STEP_MS = 10_000;

/** When the time of a process is up: it is killed, and counted as ended when the kill does nothing. */
export class ProcessDeadline {
  readonly #kill: () => void;
  readonly #giveUp: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isOver = false;

  constructor(kill: () => void, giveUp: () => void) {
    this.#kill = kill;
    this.#giveUp = giveUp;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** `at`: Unix milliseconds; never when it is undefined. */
  arm(at: number | undefined): void {
    if (at === undefined) return;
    this.#timer = setTimeout(() => this.#pass(), Math.max(0, at - Date.now()));
  }

  clear(): void {
    clearTimeout(this.#timer);
  }

  #pass(): void {
    this.#isOver = true;
    this.#timer = setTimeout(this.#giveUp, LAST_STEP_MS);
    this.#kill();
  }
}
