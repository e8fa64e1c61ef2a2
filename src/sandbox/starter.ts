import { hostIdOf, type Backend, type Placement } from "../backends/backend.ts";
import { asApiError } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import type { StartSpec } from "../contract/host-protocol.ts";
import { networkPolicyOf } from "../contract/sandbox-network.ts";
import { hostLifetimeMs } from "./host-deadline.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Place, Places } from "./places.ts";
import type { FoundNeeds, StartNeeds } from "./start-needs.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

const RETRY_MS = 500;
/** One call does not wait for room any longer. */
const MAX_WAIT_MS = 20_000;
/** The timer that takes a start up again when this object was lost in the middle of it. */
const RESUME_MS = 5000;

/** A token with which a host pulls from a repository. */
export type GrantPull = (environment: string, repository: string) => Promise<string>;

export interface StarterParts {
  lifecycle: Lifecycle;
  timers: Timers;
  places: Pick<Places, "reserve" | "release">;
  open: (record: SandboxRecord) => Backend;
  grantPull: GrantPull;
  /** The variables and the volumes that a container gets. Throws where they cannot be had now. */
  needsOf: (record: SandboxRecord) => Promise<StartNeeds>;
  confirmDeadline: () => void;
  /** See `NetworkRules`. */
  settleNetwork: (revision: number) => Promise<void>;
  /** How long a sandbox waits for a place, from its creation. */
  schedulingMs: number;
  now: () => number;
}

/** Brings the container up: waits for a place, starts there, and takes another where that fails, while the deadline allows. */
export class Starter {
  readonly #parts: StarterParts;
  #run: Promise<void> | undefined;

  constructor(parts: StarterParts) {
    this.#parts = parts;
  }

  /** Starts, or takes up a start that was interrupted; first at `place`, where one is its own already. One at a time; never throws. */
  start(place?: Placement): Promise<void> {
    const { timers, now } = this.#parts;
    timers.set("start", now() + RESUME_MS);
    this.#run ??= this.#attempts(place).finally(() => {
      this.#run = undefined;
    });
    return this.#run;
  }

  async #attempts(place: Placement | undefined): Promise<void> {
    const { lifecycle, places, schedulingMs, now } = this.#parts;
    const failed = new Set<string>();
    let why = "No host is connected.";
    let own = place && { place };
    for (;;) {
      const record = lifecycle.record;
      if (!record || !isLive(record.state) || record.startedAt !== undefined) return;
      const leftMs = record.createdAt + schedulingMs - now();
      const found = own ?? (await this.#reserve(record, [...failed], leftMs));
      own = undefined;
      if ("place" in found) {
        if (!isLive(lifecycle.record?.state ?? "terminated")) return places.release(record).catch(() => undefined);
        const outcome = await this.#startAt(found.place);
        if (outcome.kind === "done") return;
        why = outcome.why;
        const hostId = hostIdOf(found.place);
        if (hostId !== undefined) failed.add(hostId);
      } else {
        // What one that failed said tells more than that there is no other.
        if (failed.size === 0) why = found.why;
        failed.clear();
      }
      if (!isLive(lifecycle.record?.state ?? "terminated")) return;
      if (now() >= record.createdAt + schedulingMs) {
        lifecycle.apply({ kind: "no_capacity", error: why });
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** Once more where the time is just up: it may have been given a place meanwhile. */
  async #reserve(record: SandboxRecord, excluded: string[], leftMs: number): Promise<Place> {
    // The others of those that have failed it may be the only ones there are: they are tried again soon.
    const waitMs = excluded.length > 0 ? 0 : Math.max(0, Math.min(leftMs, MAX_WAIT_MS));
    try {
      return await this.#parts.places.reserve(record, excluded, waitMs);
    } catch (error) {
      const why = "Who knows which host has room does not answer.";
      console.error(why, error);
      return { why };
    }
  }

  async #startAt(place: Placement): Promise<{ kind: "done" } | { kind: "next"; why: string }> {
    const { lifecycle, open, needsOf, confirmDeadline, settleNetwork } = this.#parts;
    const before = lifecycle.record!;
    if (!isLive(before.state)) return { kind: "done" };
    // A start that was cut off is taken up where it was: that host may have the container already.
    const isSame = before.placement !== undefined && isSamePlace(before.placement, place) && before.generation > 0;
    const generation = isSame ? before.generation : before.generation + 1;
    // What may have come up elsewhere all the same is not left behind, where that host can be reached: else it is reaped later.
    if (!isSame && before.placement) void this.#leave(before);
    lifecycle.schedule(place, generation);
    const record = lifecycle.record!;
    const backend = open(record);
    try {
      const found = await needsOf(record);
      if (found.kind === "failed") lifecycle.apply({ kind: "start_failed", error: found.error });
      if (found.kind === "failed" || this.#isFenced(generation)) return { kind: "done" };
      const spec = { ...specOf(record, found.needs), ...(await this.#source(record)) };
      const outcome = await backend.start(spec);
      // One that was adopted may have been started with what was changed since; until there was a change, nothing was.
      const startedWith = outcome.kind === "launched" ? record.networkRevision : 0;
      if (outcome.kind !== "failed" && !this.#isFenced(generation)) await settleNetwork(startedWith);
      if (this.#isFenced(generation)) {
        await backend.stop().catch(() => undefined);
        return { kind: "done" };
      }
      if (outcome.kind === "failed") lifecycle.apply({ kind: "start_failed", error: outcome.error });
      else if (lifecycle.apply({ kind: "started" }, { publishedPorts: outcome.publishedPorts })) {
        // One that was adopted started earlier than we say, and the lifetime may have been changed meanwhile.
        const isTrue = outcome.kind === "launched" && spec.lifetime_ms === hostLifetimeMs(lifecycle.record!);
        if (!isTrue) confirmDeadline();
      }
      return { kind: "done" };
    } catch (error) {
      const known = asApiError(error);
      if (!known)
        console.error(`${record.sandboxId} could not be started ${hostIdOf(place) ?? "on Cloudflare"}.`, error);
      return { kind: "next", why: known?.message ?? "The host failed to start the sandbox." };
    }
  }

  async #leave(before: SandboxRecord): Promise<void> {
    await (async () => this.#parts.open(before).stop())().catch(() => undefined);
  }

  /** Of an image in the registry: where it is, and the grant to pull it. */
  async #source({ environment, place }: SandboxRecord): Promise<Pick<StartSpec, "image_source">> {
    const source = place?.source;
    if (!source) return {};
    return { image_source: { ...source, token: await this.#parts.grantPull(environment, source.repository) } };
  }

  #isFenced(generation: number): boolean {
    const { record } = this.#parts.lifecycle;
    return !record || !isLive(record.state) || record.generation !== generation;
  }
}

/** With other devices it is another place: a container that came up there all the same has those that were others' meanwhile. */
function isSamePlace(a: Placement, b: Placement): boolean {
  return a.kind === b.kind && hostIdOf(a) === hostIdOf(b) && devicesOf(a) === devicesOf(b);
}

const devicesOf = (place: Placement): string => (place.kind === "host" ? (place.gpus ?? []).toSorted().join(" ") : "");

function specOf(record: SandboxRecord, { headers, ...needs }: FoundNeeds): StartSpec {
  const { create, placement } = record;
  const network = networkPolicyOf(create, headers);
  const { gpus, warm, evict } = placement?.kind === "host" ? placement : {};
  return {
    sandbox_id: record.sandboxId,
    environment: record.environment,
    generation: record.generation,
    image: record.image,
    ...needs,
    raw_ports: create.unencrypted_ports ?? [],
    lifetime_ms: hostLifetimeMs(record),
    ...(create.entrypoint && { entrypoint: create.entrypoint }),
    ...(create.workdir !== undefined && { workdir: create.workdir }),
    ...(create.pty && { pty: create.pty }),
    ...(create.cpu !== undefined && { cpu: create.cpu }),
    ...(create.memory !== undefined && { memory: create.memory }),
    ...(network && { network }),
    ...(gpus && { gpus }),
    ...(warm !== undefined && { warm }),
    ...(evict && { evict }),
    ...(record.endImageId !== undefined && { end_image: record.endImageId }),
  };
}
