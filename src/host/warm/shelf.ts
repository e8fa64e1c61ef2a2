import type { StartSpec, WarmSpec, WarmStatus } from "../../contract/host-protocol.ts";
import type { WarmContainer, WarmSource } from "../runtime.ts";
import { settlesWithin } from "../time-limit.ts";
import { misfit } from "./misfit.ts";
import { WarmSlot } from "./slot.ts";

/** More at once would slow each other down, and whoever waits for a sandbox. */
const MAX_STARTS = 2;
/** How long sandboxes that are started one after the other may hold up the warm ones. */
const MAX_HOLD_UP_MS = 10_000;
/** How long a container that is just starting is waited for; a new one would take about as long. */
const ABOUT_READY_MS = 2_000;
/** How long a container that is of no use is waited for to be gone before another starts in its place. */
const CLEARED_MS = 10_000;

/** The warm containers of this machine: makes them as many as are wanted, and hands each out once. */
export class WarmShelf {
  readonly #source: WarmSource;
  readonly #onChange: () => void;
  readonly #slots = new Map<string, WarmSlot>();
  /** Off the shelf and not gone yet. */
  readonly #leaving = new Map<string, WarmSlot>();
  /** The ids that orders may still name, given before it was known here that their containers are done with. */
  readonly #spent = new Set<string>();
  #starting = 0;
  #lastStartAt = 0;
  #creating = 0;
  #isClosed = false;

  /** `onChange`: what `list` tells is news. */
  constructor(source: WarmSource, onChange: () => void) {
    this.#source = source;
    this.#onChange = onChange;
  }

  list(): WarmStatus[] {
    return [...this.#slots.values()].map(({ status }) => status);
  }

  /** Takes over what an earlier run of this daemon left. */
  restock(): void {
    for (const container of this.#source.recovered()) {
      const { warm_id: warmId } = container.spec;
      this.#slots.set(
        warmId,
        WarmSlot.of(container, () => this.#died(warmId)),
      );
    }
  }

  /** These are all that are wanted: starts what is missing, one after the other, and removes the rest. */
  converge(wanted: readonly WarmSpec[]): void {
    if (this.#isClosed) return;
    const wantedIds = new Set(wanted.map(({ warm_id }) => warm_id));
    for (const id of this.#spent) if (!wantedIds.has(id)) this.#spent.delete(id);
    for (const id of this.#slots.keys()) if (!wantedIds.has(id)) void this.#drop(id).catch(() => undefined);
    // Those whose removal has failed before, too.
    for (const slot of this.#leaving.values()) void this.#remove(slot).catch(() => undefined);
    for (const spec of wanted) {
      const { warm_id: warmId } = spec;
      if (this.#slots.has(warmId) || this.#spent.has(warmId)) continue;
      this.#slots.set(warmId, new WarmSlot(spec, () => this.#died(warmId)));
    }
    this.#startNext();
  }

  /** Takes the container that is to become this sandbox's off the shelf; undefined where it cannot: it is removed then. */
  async take(spec: StartSpec): Promise<WarmContainer | undefined> {
    const { warm: warmId } = spec;
    if (warmId === undefined) return undefined;
    const slot = this.#slots.get(warmId);
    // At once: of two who ask for it, one gets it.
    this.#slots.delete(warmId);
    this.#spent.add(warmId);
    if (!slot) return undefined;
    this.#onChange();
    const wrong = misfit(slot.spec, spec);
    if (wrong) console.error(`sandbar host: ${warmId} is not as ${spec.sandbox_id} asks for it: ${wrong}`);
    const container = wrong ? undefined : await slot.alive(ABOUT_READY_MS);
    if (container) slot.handOut();
    else await settlesWithin(this.#removeSlot(slot), CLEARED_MS);
    return container;
  }

  /** Removes containers to make room; resolves when they are gone. */
  async evict(warmIds: readonly string[]): Promise<void> {
    if (warmIds.length === 0) return;
    for (const id of warmIds) this.#spent.add(id);
    const gone = warmIds.map((id) => (this.#slots.has(id) ? this.#drop(id) : this.#leaving.get(id)?.remove()));
    this.#onChange();
    await Promise.all(gone);
  }

  /** A sandbox is being started: until the answer is called, warm containers wait. */
  makeWay(): () => void {
    this.#creating += 1;
    return () => {
      this.#creating -= 1;
      this.#startNext();
    };
  }

  /** Starts nothing more. */
  close(): void {
    this.#isClosed = true;
  }

  /** Removes all of them, for good. */
  async clear(): Promise<void> {
    this.close();
    for (const id of this.#slots.keys()) void this.#drop(id).catch(() => undefined);
    await Promise.allSettled([...this.#leaving.values()].map((slot) => slot.remove()));
  }

  #drop(warmId: string): Promise<void> {
    const slot = this.#slots.get(warmId)!;
    this.#slots.delete(warmId);
    this.#spent.add(warmId);
    return this.#removeSlot(slot);
  }

  #removeSlot(slot: WarmSlot): Promise<void> {
    this.#leaving.set(slot.spec.warm_id, slot);
    return this.#remove(slot);
  }

  async #remove(slot: WarmSlot): Promise<void> {
    const { warm_id: warmId } = slot.spec;
    try {
      await slot.remove();
      this.#leaving.delete(warmId);
    } catch (error) {
      console.error(`sandbar host: ${warmId} could not be removed, and is tried again:`, error);
      throw error;
    }
  }

  /** Ended by itself: it stays to be told of until nobody asks for it. */
  #died(warmId: string): void {
    const slot = this.#slots.get(warmId);
    if (slot) slot.remove().catch((error: unknown) => console.error(`sandbar host: ${warmId} is left over:`, error));
    this.#onChange();
  }

  #startNext(): void {
    for (const slot of this.#slots.values()) {
      if (this.#isClosed || this.#starting >= this.#maxStarts()) return;
      if (slot.isWaiting) void this.#start(slot);
    }
  }

  #maxStarts(): number {
    if (this.#creating === 0) return MAX_STARTS;
    return Date.now() - this.#lastStartAt > MAX_HOLD_UP_MS ? 1 : 0;
  }

  async #start(slot: WarmSlot): Promise<void> {
    this.#starting += 1;
    this.#lastStartAt = Date.now();
    await slot.start(this.#source);
    this.#starting -= 1;
    this.#onChange();
    this.#startNext();
  }
}
