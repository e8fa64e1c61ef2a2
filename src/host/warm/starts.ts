import { ApiError, hasCode } from "../../contract/errors.ts";
import type { StartSpec } from "../../contract/host-protocol.ts";
import type { GpuLedger } from "../gpu-ledger.ts";
import { type Bind, type Container, type Prepare, type Runtime, StartFailure } from "../runtime.ts";
import type { WarmShelf } from "./shelf.ts";

/** The starts of a runtime that has containers ready: a sandbox gets the warm one that it was given, else a new one. */
export class WarmStarts implements Pick<Runtime, "start" | "recover"> {
  readonly #runtime: Pick<Runtime, "start" | "recover">;
  readonly #shelf: WarmShelf;
  readonly #gpus: GpuLedger;

  constructor(runtime: Pick<Runtime, "start" | "recover">, shelf: WarmShelf, gpus: GpuLedger) {
    this.#runtime = runtime;
    this.#shelf = shelf;
    this.#gpus = gpus;
  }

  async start(spec: StartSpec, binds: readonly Bind[] = [], prepare?: Prepare): Promise<Container> {
    const done = this.#shelf.makeWay();
    try {
      const inTheWay = this.#gpus.warmHolders(spec.gpus).filter((warmId) => warmId !== spec.warm);
      await this.#shelf.evict([...new Set([...(spec.evict ?? []), ...inTheWay])]);
      // Nothing can be mounted into one that runs.
      const warm = binds.length === 0 ? await this.#adopt(spec, prepare) : undefined;
      return warm ?? (await this.#startAnew(spec, binds, prepare));
    } finally {
      done();
    }
  }

  /** Not while a warm container that is of no use still has its devices. */
  async #startAnew(spec: StartSpec, binds: readonly Bind[], prepare?: Prepare): Promise<Container> {
    const [other] = this.#gpus.warmHolders(spec.gpus);
    if (other !== undefined) throw new ApiError("conflict", { detail: `GPUs are in use by ${other}.` });
    return this.#runtime.start(spec, binds, prepare);
  }

  async recover(): Promise<Container[]> {
    const found = await this.#runtime.recover();
    this.#shelf.restock();
    return found;
  }

  /** Undefined where a new one may fare better. */
  async #adopt(spec: StartSpec, prepare?: Prepare): Promise<Container | undefined> {
    const warm = await this.#shelf.take(spec);
    if (!warm) return undefined;
    try {
      return await warm.adopt(spec, prepare);
    } catch (error) {
      if (error instanceof StartFailure || hasCode(error, "unsupported_by_backend")) throw error;
      console.error(`sandbar host: ${spec.sandbox_id} starts anew, ${spec.warm} cannot become its:`, String(error));
      return undefined;
    }
  }
}
