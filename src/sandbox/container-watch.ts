import { hasCode } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { hasStarted } from "./machine.ts";
import { KEPT_AFTER_END_MS } from "./process-output.ts";
import type { SandboxStore } from "./store.ts";
import type { Timers } from "./timers.ts";
import type { Watch } from "./watch.ts";

/** How long the loss of a container may go unnoticed while its object sleeps and nobody reports it. */
const LOOK_MS = 60_000;
/** What the processes of an ended sandbox take in its storage, once their output is no longer kept. */
const KEPT_PROCESSES_BYTES = 16_384;

export interface ContainerWatchParts {
  store: SandboxStore;
  lifecycle: Lifecycle;
  timers: Timers;
  watch: Watch;
  host: HostLink;
  /** How long this host has told nobody that it is there, in milliseconds; undefined where it was removed. */
  silence: (hostId: string) => Promise<number | undefined>;
  /** A host that is silent for longer, and is not reached, has gone. Milliseconds. */
  hostLostAfterMs: number;
  now: () => number;
}

/**
 * Looks after the container from time to time: one beside the object, whose end no host reports, and one whose host has gone
 * for good. While something runs beside the object its end is noticed at once.
 */
export class ContainerWatch {
  readonly #parts: ContainerWatchParts;

  constructor(parts: ContainerWatchParts) {
    this.#parts = parts;
  }

  /** Whether a container beside the object is to run. */
  get isBeside(): boolean {
    return this.#isDue && this.#parts.lifecycle.record?.placement?.kind === "cloudflare";
  }

  get #isDue(): boolean {
    const { record } = this.#parts.lifecycle;
    return record !== undefined && hasStarted(record.state);
  }

  /** Sets the timer of the next look, where there is something to look at. */
  arm(): void {
    if (this.#isDue) this.#parts.timers.set("container", this.#parts.now() + LOOK_MS);
  }

  /** The sandbox has ended: what its processes wrote is kept for a while. */
  ended(): void {
    this.#parts.timers.set("container", this.#parts.now() + KEPT_AFTER_END_MS);
  }

  /** The timer: looks, or lets go of what is no longer kept. */
  async fire(): Promise<void> {
    const { lifecycle, timers, store, host } = this.#parts;
    const { record } = lifecycle;
    if (record && isLive(record.state)) {
      this.arm();
      return this.check();
    }
    // What is left of the container is asked for until it is gone.
    if (record && !record.isCleanedUp) return this.ended();
    store.shrink(KEPT_PROCESSES_BYTES);
    timers.clear("container");
    if (record?.placement?.kind !== "cloudflare") return;
    await (async () => host.open().forget())().catch((error: unknown) => {
      console.error("The output of a sandbox that has ended is left where it is.", error);
    });
  }

  /** Looks at a container that is to run. One that does not answer is looked at again, until its host counts as lost. */
  async check(): Promise<void> {
    try {
      await this.#parts.watch.check();
      this.#note(undefined);
    } catch (error) {
      if (hasCode(error, "backend_unavailable")) await this.#missing();
      else console.error("A container could not be looked at; it is tried again.", error);
    }
    this.arm();
  }

  /** Since when the host was not reached, over the sleep of the object. */
  #note(unreachedSince: number | undefined): void {
    const { lifecycle } = this.#parts;
    if (lifecycle.record && lifecycle.record.unreachedSince !== unreachedSince)
      lifecycle.update({ unreachedSince }, false);
  }

  async #missing(): Promise<void> {
    const { lifecycle, host, silence, hostLostAfterMs, now } = this.#parts;
    const before = lifecycle.record;
    if (before?.placement?.kind !== "host") return;
    this.#note(before.unreachedSince ?? now());
    const unreachedMs = now() - (lifecycle.record?.unreachedSince ?? now());
    try {
      await host.relocate();
      const silentMs = await silence(before.placement.hostId);
      // The catalog may have been away as long as the host seems to be: its own silence is not enough.
      if (silentMs !== undefined && Math.min(silentMs, unreachedMs) < hostLostAfterMs) return;
      if (lifecycle.record?.generation !== before.generation) return;
      const why = silentMs === undefined ? "was removed" : `has not been heard of for ${Math.round(silentMs / 1000)} s`;
      lifecycle.apply({ kind: "host_lost", error: `The sandbox's host ${why}.` });
    } catch (error) {
      console.error("What became of a host cannot be found out yet.", error);
    }
  }
}
