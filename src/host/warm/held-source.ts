import type { StartSpec, WarmSpec } from "../../contract/host-protocol.ts";
import type { GpuLedger } from "../gpu-ledger.ts";
import type { Container, Prepare, WarmContainer, WarmSource } from "../runtime.ts";

/** How long devices that were just given up are waited for. */
const LEAVING_MS = 10_000;
const LOOK_MS = 100;

/** Warm containers whose devices are in the ledger, from before their start until nothing of them is left or a sandbox has them. */
export class HeldWarmSource implements WarmSource {
  readonly #source: WarmSource;
  readonly #gpus: GpuLedger;

  constructor(source: WarmSource, gpus: GpuLedger) {
    this.#source = source;
    this.#gpus = gpus;
  }

  prepare(spec: WarmSpec): Promise<void> {
    return this.#source.prepare(spec);
  }

  async start(spec: WarmSpec): Promise<WarmContainer> {
    const free = await this.#take(spec);
    try {
      return new HeldWarm(await this.#source.start(spec), free);
    } catch (error) {
      free();
      throw error;
    }
  }

  /** What had the devices before may be just leaving. Throws `conflict` where it does not. */
  async #take({ warm_id: warmId, gpus = [] }: WarmSpec): Promise<() => void> {
    for (const giveUpAt = Date.now() + LEAVING_MS; ; await new Promise((wake) => setTimeout(wake, LOOK_MS))) {
      try {
        return this.#gpus.takeWarm(warmId, gpus);
      } catch (error) {
        if (Date.now() > giveUpAt) throw error;
      }
    }
  }

  recovered(): WarmContainer[] {
    return this.#source
      .recovered()
      .map((warm) => new HeldWarm(warm, this.#gpus.adoptWarm(warm.spec.warm_id, warm.spec.gpus ?? [])));
  }
}

class HeldWarm implements WarmContainer {
  readonly spec: WarmSpec;
  readonly ended: Promise<unknown>;
  readonly #warm: WarmContainer;
  readonly #free: () => void;

  constructor(warm: WarmContainer, free: () => void) {
    this.spec = warm.spec;
    this.ended = warm.ended;
    this.#warm = warm;
    this.#free = free;
  }

  isAlive(): Promise<boolean> {
    return this.#warm.isAlive();
  }

  /** Whoever starts the sandbox has taken them for it before: either it has them now, or nobody. */
  async adopt(spec: StartSpec, prepare?: Prepare): Promise<Container> {
    try {
      const container = await this.#warm.adopt(spec, prepare);
      this.#free();
      return container;
    } catch (error) {
      // It may be gone already; while it is not, nobody has its devices.
      await this.stop().catch(() => undefined);
      throw error;
    }
  }

  async stop(): Promise<void> {
    await this.#warm.stop();
    this.#free();
  }
}
