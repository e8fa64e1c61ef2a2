import { hostIdOf, type Backend, type Placement } from "../backends/backend.ts";
import { asApiError } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import type { StartSpec } from "../contract/host-protocol.ts";
import { hostLifetimeMs } from "./host-deadline.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

/** How long a sandbox looks for a host that takes it. */
export const SCHEDULING_DEADLINE_MS = 30_000;
const RETRY_MS = 500;
/** The timer that takes a start up again when this object was lost in the middle of it. */
const RESUME_MS = 5000;

/** Places that could take the sandbox, the best first. */
export type FindPlaces = (record: SandboxRecord) => Promise<Placement[]>;

/** A token with which a host pulls from a repository. */
export type GrantPull = (environment: string, repository: string) => Promise<string>;

/** Brings the container up: finds a place, starts there, tries the next while the deadline allows. */
export class Starter {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #findPlaces: FindPlaces;
  readonly #open: (record: SandboxRecord) => Backend;
  readonly #grantPull: GrantPull;
  readonly #confirmDeadline: () => void;
  readonly #now: () => number;
  #run: Promise<void> | undefined;

  constructor(
    lifecycle: Lifecycle,
    timers: Timers,
    findPlaces: FindPlaces,
    open: (record: SandboxRecord) => Backend,
    grantPull: GrantPull,
    confirmDeadline: () => void,
    now: () => number,
  ) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#findPlaces = findPlaces;
    this.#open = open;
    this.#grantPull = grantPull;
    this.#confirmDeadline = confirmDeadline;
    this.#now = now;
  }

  /** Starts, or takes up a start that was interrupted. One at a time; never throws. */
  start(): Promise<void> {
    this.#timers.set("start", this.#now() + RESUME_MS);
    this.#run ??= this.#attempts().finally(() => {
      this.#run = undefined;
    });
    return this.#run;
  }

  async #attempts(): Promise<void> {
    let why = "No host is connected.";
    for (;;) {
      const record = this.#lifecycle.record;
      if (!record || !isLive(record.state) || record.startedAt !== undefined) return;
      let places: Placement[] = [];
      try {
        places = await this.#findPlaces(record);
      } catch (error) {
        why = "The catalog of hosts cannot be read.";
        console.error(why, error);
      }
      for (const place of this.#interruptedFirst(record, places)) {
        const outcome = await this.#startAt(place);
        if (outcome.kind === "done") return;
        why = outcome.why;
      }
      const now = this.#lifecycle.record;
      if (!now || !isLive(now.state)) return;
      if (this.#now() >= now.createdAt + SCHEDULING_DEADLINE_MS) {
        this.#lifecycle.apply({ kind: "no_capacity", error: why });
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** A start that was cut off is taken up where it was: that host may have the container already. */
  #interruptedFirst(record: SandboxRecord, places: Placement[]): Placement[] {
    const before = record.placement;
    if (!before) return places;
    return places.toSorted((a, b) => Number(isSamePlace(b, before)) - Number(isSamePlace(a, before)));
  }

  async #startAt(place: Placement): Promise<{ kind: "done" } | { kind: "next"; why: string }> {
    const before = this.#lifecycle.record!;
    if (!isLive(before.state)) return { kind: "done" };
    const isSame = before.placement !== undefined && isSamePlace(before.placement, place) && before.generation > 0;
    const generation = isSame ? before.generation : before.generation + 1;
    this.#lifecycle.schedule(place, generation);
    const record = this.#lifecycle.record!;
    const backend = this.#open(record);
    try {
      const spec = { ...specOf(record), ...(await this.#source(record)) };
      const outcome = await backend.start(spec);
      if (this.#isFenced(generation)) {
        await backend.stop().catch(() => undefined);
        return { kind: "done" };
      }
      if (outcome.kind === "failed") this.#lifecycle.apply({ kind: "start_failed", error: outcome.error });
      else if (this.#lifecycle.apply({ kind: "started" }, { publishedPorts: outcome.publishedPorts })) {
        // One that was adopted started earlier than we say, and the lifetime may have been changed meanwhile.
        const isTrue = outcome.kind === "launched" && spec.lifetime_ms === hostLifetimeMs(this.#lifecycle.record!);
        if (!isTrue) this.#confirmDeadline();
      }
      return { kind: "done" };
    } catch (error) {
      const known = asApiError(error);
      if (!known)
        console.error(`${record.sandboxId} could not be started ${hostIdOf(place) ?? "on Cloudflare"}.`, error);
      return { kind: "next", why: known?.message ?? "The host failed to start the sandbox." };
    }
  }

  /** Of an image in the registry: where it is, and the grant to pull it. */
  async #source({ environment, place }: SandboxRecord): Promise<Pick<StartSpec, "image_source">> {
    const source = place?.source;
    if (!source) return {};
    return { image_source: { ...source, token: await this.#grantPull(environment, source.repository) } };
  }

  #isFenced(generation: number): boolean {
    const record = this.#lifecycle.record;
    return !record || !isLive(record.state) || record.generation !== generation;
  }
}

function isSamePlace(a: Placement, b: Placement): boolean {
  return a.kind === b.kind && hostIdOf(a) === hostIdOf(b);
}

function specOf(record: SandboxRecord): StartSpec {
  const { create } = record;
  return {
    sandbox_id: record.sandboxId,
    environment: record.environment,
    generation: record.generation,
    image: record.image,
    env: create.env ?? {},
    raw_ports: create.unencrypted_ports ?? [],
    lifetime_ms: hostLifetimeMs(record),
    ...(create.entrypoint && { entrypoint: create.entrypoint }),
    ...(create.workdir !== undefined && { workdir: create.workdir }),
    ...(create.pty && { pty: create.pty }),
    ...(create.cpu !== undefined && { cpu: create.cpu }),
    ...(create.memory !== undefined && { memory: create.memory }),
    ...(create.block_network !== undefined && { block_network: create.block_network }),
    ...(record.endImageId !== undefined && { end_image: record.endImageId }),
  };
}
