import type { WarmSpec, WarmStatus } from "../../contract/host-protocol.ts";
import { StartFailure, type WarmContainer, type WarmSource } from "../runtime.ts";
import { settlesWithin } from "../time-limit.ts";

const MAX_ERROR_LENGTH = 2000;

/**
 * One warm container, from the order to start it until a sandbox has it or it is removed. `preparing`: nothing of it is on this
 * machine yet.
 */
export class WarmSlot {
  readonly spec: WarmSpec;
  #state: "waiting" | "preparing" | "starting" | "ready" | "failed" = "waiting";
  #error: string | undefined;
  #container: WarmContainer | undefined;
  #isUnwanted = false;
  #started: Promise<void> = Promise.resolve();
  #removed: Promise<void> | undefined;
  readonly #onDeath: () => void;

  /** `onDeath`: it has ended by itself, and is removed. */
  constructor(spec: WarmSpec, onDeath: () => void) {
    this.spec = spec;
    this.#onDeath = onDeath;
  }

  /** Of a container that runs. */
  static of(container: WarmContainer, onDeath: () => void): WarmSlot {
    const slot = new WarmSlot(container.spec, onDeath);
    slot.#hold(container);
    return slot;
  }

  get isWaiting(): boolean {
    return this.#state === "waiting";
  }

  get status(): WarmStatus {
    const isUnderWay = this.#state !== "ready" && this.#state !== "failed";
    return {
      warm_id: this.spec.warm_id,
      state: isUnderWay ? "starting" : (this.#state as "ready" | "failed"),
      ...(this.#error !== undefined && { error: this.#error }),
    };
  }

  /** Starts it. Never rejects. */
  start(source: WarmSource): Promise<void> {
    this.#started = this.#start(source).catch((error: unknown) => {
      if (!(error instanceof StartFailure)) console.error(`sandbar host: ${this.spec.warm_id} does not start:`, error);
      this.#fail(error instanceof Error ? error.message : String(error));
    });
    return this.#started;
  }

  /** Its container, where it runs; one that is about to be ready is waited for so long. */
  async alive(waitMs: number): Promise<WarmContainer | undefined> {
    if (this.#state === "starting") await settlesWithin(this.#started, waitMs);
    const container = this.#container;
    return (await container?.isAlive().catch(() => false)) ? container : undefined;
  }

  /** The container is somebody else's from now on. */
  handOut(): void {
    this.#container = undefined;
  }

  /** Resolves when nothing of it is left, and nothing will come. Idempotent; tries again after it has failed. */
  remove(): Promise<void> {
    this.#isUnwanted = true;
    this.#removed ??= this.#remove().catch((error: unknown) => {
      this.#removed = undefined;
      throw error;
    });
    return this.#removed;
  }

  async #start(source: WarmSource): Promise<void> {
    this.#state = "preparing";
    await source.prepare(this.spec);
    if (this.#isUnwanted) return;
    this.#state = "starting";
    this.#hold(await source.start(this.spec));
  }

  async #remove(): Promise<void> {
    if (this.#state === "starting") await this.#started;
    await this.#container?.stop();
    this.#container = undefined;
  }

  #hold(container: WarmContainer): void {
    this.#container = container;
    this.#state = "ready";
    void container.ended.then(() => {
      if (this.#container !== container || this.#isUnwanted) return;
      this.#fail("The container has ended.");
      this.#onDeath();
    });
  }

  #fail(error: string): void {
    this.#state = "failed";
    this.#error = error.slice(0, MAX_ERROR_LENGTH);
  }
}
