import { describe, expect, it } from "vitest";
import { ANY_GPU } from "../../../src/contract/gpu.ts";
import type { Demand, FleetHost, Grant, Holding } from "../../../src/placement/policy/model.ts";
import { Scheduler } from "../../../src/placement/policy/scheduler.ts";
import { ANY_HOST, demand, host, inRegion, randomOf } from "./policy-fleet.ts";

const REGIONS = ["eu", "us"];
const GPUS = [undefined, undefined, "L4:4", "H100:8", "L4:2,T4:2"];
const WISHES = [undefined, undefined, undefined, "L4", "L4:2", "H100!:4", "any:2", "T4:2,L4", "any"];
const SINCE_STEP = 10;

/** What the scheduler is told and what it answers, checked against the plain rules by looking at everything. */
class Model {
  readonly scheduler = new Scheduler({ perEnvironment: 60, total: 150 });
  readonly hosts = new Map<string, FleetHost>();
  readonly holdings = new Map<string, Holding>();
  readonly occupied = new Map<string, string[]>();
  readonly waiting = new Map<string, Demand>();
  readonly #random: () => number;
  #made = 0;

  constructor(seed: number) {
    this.#random = randomOf(seed);
  }

  pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#random() * from.length)]!;
  }

  putHost(hostId: string): void {
    const one = host(hostId, {
      cpu: this.pick([2, 4, 8]),
      overcommit: this.pick([1, 2]),
      memory: this.pick([4096, 8192, 12_000]),
      region: this.pick(REGIONS),
      images: [this.pick(["a", "b"]), this.pick(["b", "c"])],
      ...withGpu(this.pick(GPUS)),
    });
    this.hosts.set(hostId, one);
    this.scheduler.putHost(one);
  }

  demand(id = `d${this.#made++}`): Demand {
    return demand(id, {
      environment: this.pick(["x", "y", "z"]),
      cpu: this.pick([0.1, 0.5, 1, 1, 2, 4]),
      memory: this.pick([100, 512, 1024, 4000]),
      image: this.pick(["a", "b", "c", "d"]),
      hosts: this.pick([ANY_HOST, ANY_HOST, inRegion("eu"), inRegion("us")]),
      since: this.#made * SINCE_STEP,
      ...withGpu(this.pick(WISHES)),
    });
  }

  step(): void {
    const { scheduler } = this;
    const action = this.#random();
    if (action < 0.55) {
      const asked = this.demand();
      const decision = scheduler.request(asked);
      if (decision.kind === "granted") this.granted(asked, decision.grant);
      if (decision.kind === "queued") this.waiting.set(asked.id, asked);
    } else if (action < 0.62) {
      const warm = this.demand();
      const grant = scheduler.place(warm);
      if (grant) this.granted(warm, grant);
    } else if (action < 0.9) {
      const ended = this.pick([...this.holdings.keys()]);
      if (ended !== undefined) this.release(ended);
    } else if (action < 0.93) {
      const id = this.pick([...this.waiting.keys()]);
      if (id !== undefined) scheduler.cancel(id);
      if (id !== undefined) this.waiting.delete(id);
    } else if (action < 0.95) {
      const warm = this.pick([...this.holdings.values()].filter(({ isWarm }) => isWarm));
      if (warm) this.hand(warm);
    } else if (action < 0.97) {
      const one = this.pick([...this.hosts.values()]);
      const flipped = { ...one, isOpen: !one.isOpen };
      this.hosts.set(one.hostId, flipped);
      scheduler.putHost(flipped);
    } else if (action < 0.985) this.occupy();
    else this.replace();
    for (const { demand, grant } of scheduler.pump()) {
      expect(this.waiting.delete(demand.id)).toBe(true);
      this.granted(demand, grant);
    }
  }

  release(id: string): void {
    this.scheduler.release(id);
    this.holdings.delete(id);
  }

  hand(warm: Holding): void {
    const mine = this.demand();
    const handed = this.scheduler.hand(warm.id, mine)!;
    expect(handed).toEqual({ ...warm, id: mine.id, environment: mine.environment, isWarm: false });
    this.holdings.delete(warm.id);
    this.holdings.set(mine.id, handed);
  }

  occupy(): void {
    const one = this.pick([...this.hosts.values()]);
    const held = new Set([...this.holdings.values()].flatMap(({ gpus }) => gpus));
    const free = (one.info.capacity?.gpus ?? []).map(({ uuid }) => uuid).filter((uuid) => !held.has(uuid));
    const occupied = free.filter(() => this.#random() < 0.3);
    this.occupied.set(one.hostId, occupied);
    this.scheduler.occupy(one.hostId, occupied);
  }

  replace(): void {
    const hostId = this.pick([...this.hosts.keys()]);
    const expected = [...this.holdings.values()].filter((holding) => holding.hostId === hostId);
    const dropped = this.scheduler.removeHost(hostId);
    expect(dropped.map(({ id }) => id).toSorted()).toEqual(expected.map(({ id }) => id).toSorted());
    for (const { id } of dropped) this.holdings.delete(id);
    this.occupied.delete(hostId);
    this.hosts.delete(hostId);
    this.putHost(hostId);
  }

  granted(asked: Demand, { holding, evicted }: Grant): void {
    for (const id of evicted) {
      expect(this.holdings.get(id)).toMatchObject({ isWarm: true, hostId: holding.hostId });
      this.holdings.delete(id);
    }
    const { isOpen, info } = this.hosts.get(holding.hostId)!;
    expect(isOpen && asked.hosts.admits(info) && asked.cpu <= info.capacity!.cpu).toBe(true);
    this.holdings.set(holding.id, holding);
    expect(holding).toMatchObject({ id: asked.id, environment: asked.environment, cpu: asked.cpu });
    const types = holding.gpus.map((uuid) => info.capacity!.gpus.find((device) => device.uuid === uuid)!.type);
    const isWished = ({ type, count }: { type: string; count: number }) =>
      types.length === count && types.every((one) => type === ANY_GPU || one === type);
    expect(asked.gpus.length === 0 ? types.length === 0 : asked.gpus.some(isWished)).toBe(true);
    // Nobody of the same environment who came before, wants the same hosts and no more, still waits.
    if (holding.isWarm) return;
    for (const other of this.waiting.values()) {
      const isBefore = other.since < asked.since && other.environment === asked.environment;
      const isNoMore = other.cpu <= asked.cpu && other.memory <= asked.memory && other.hosts.key === asked.hosts.key;
      const isSame = JSON.stringify(other.gpus) === JSON.stringify(asked.gpus) || other.gpus.length === 0;
      if (isBefore && isNoMore && isSame) throw new Error(`${asked.id} went before ${other.id}`);
    }
  }

  /** Nothing is promised twice, and what could be given is given. */
  check(): void {
    const used = new Set<string>([...this.occupied.values()].flat());
    for (const { gpus } of this.holdings.values()) {
      for (const uuid of gpus) {
        expect(used.has(uuid)).toBe(false);
        used.add(uuid);
      }
    }
    const withRoom = new Set<string>();
    for (const [hostId, { info, isOpen }] of this.hosts) {
      const here = [...this.holdings.values()].filter((holding) => holding.hostId === hostId);
      const { cpu, cpu_overcommit, memory, gpus } = info.capacity!;
      const left = (holdings: Holding[]) => ({
        cpu: cpu * cpu_overcommit - holdings.reduce((sum, one) => sum + one.cpu, 0) + 1e-9,
        memory: memory - holdings.reduce((sum, one) => sum + one.memory, 0),
      });
      expect(Math.min(left(here).cpu, left(here).memory)).toBeGreaterThanOrEqual(0);
      expect([...this.scheduler.holdingsOf(hostId)].map(({ id }) => id).toSorted()).toEqual(
        here.map(({ id }) => id).toSorted(),
      );
      if (!isOpen) continue;
      const firm = here.filter(({ isWarm }) => !isWarm);
      const taken = new Set([...firm.flatMap((one) => one.gpus), ...(this.occupied.get(hostId) ?? [])]);
      const free = gpus.filter(({ uuid }) => !taken.has(uuid));
      for (const one of this.waiting.values()) {
        const ofType = (type: string) => free.filter((device) => type === ANY_GPU || device.type === type).length;
        const hasGpus = one.gpus.length === 0 || one.gpus.some(({ type, count }) => ofType(type) >= count);
        const { cpu: cpuLeft, memory: memoryLeft } = left(firm);
        if (!one.hosts.admits(info) || !hasGpus || one.cpu > cpu) continue;
        if (one.cpu <= cpuLeft && one.memory <= memoryLeft) withRoom.add(hostId);
      }
    }
    // Some may be kept for those who were passed over; on all others whoever has room is there.
    const { kept, queued } = this.scheduler.totals();
    expect(withRoom.size).toBeLessThanOrEqual(kept);
    expect(queued).toBe(this.waiting.size);
  }

  /** Another that is told what is in storage knows the same. */
  checkRestored(): void {
    const restored = new Scheduler({ perEnvironment: 60, total: 150 });
    const hosts = [...this.hosts.values()];
    for (const one of hosts.slice(0, 4)) restored.putHost(one);
    for (const holding of this.holdings.values()) restored.restore(holding);
    for (const one of hosts.slice(4)) restored.putHost(one);
    for (const [hostId, gpus] of this.occupied) restored.occupy(hostId, gpus);
    expect(restored.totals()).toEqual({ ...this.scheduler.totals(), queued: 0, kept: 0 });
    for (const hostId of this.hosts.keys()) expect(restored.use(hostId)).toEqual(this.scheduler.use(hostId));
    if (this.waiting.size > 0) return;
    for (let probe = 0; probe < 10; probe++) {
      const asked = this.demand(`probe-${probe}`);
      const here = this.scheduler.place(asked);
      expect(restored.place(asked) !== undefined).toBe(here !== undefined);
      for (const one of [restored, this.scheduler]) one.release(asked.id);
    }
    this.scheduler.pump();
  }

  /** Room for all comes: everybody is granted. */
  drain(): void {
    for (const one of this.hosts.values()) this.scheduler.putHost({ ...one, isOpen: true });
    for (const hostId of this.hosts.keys()) this.scheduler.occupy(hostId, []);
    const spare = [...REGIONS].map((region) => host(`spare-${region}`, { cpu: 8, gpu: "L4:2,T4:2,H100:8", region }));
    for (const one of spare) this.scheduler.putHost(one);
    const running = [...this.holdings.keys()];
    for (let left = 10_000; left > 0 && this.scheduler.queued() > 0; left--) {
      for (const { demand } of this.scheduler.pump()) running.push(demand.id);
      this.scheduler.release(running.shift() ?? "none");
    }
    expect(this.scheduler.queued()).toBe(0);
  }
}

const withGpu = (gpu: string | undefined) => (gpu === undefined ? {} : { gpu });

describe("any sequence of what can happen", () => {
  it.each(Array.from({ length: 12 }, (_, seed) => seed + 1))("keeps to the rules, with seed %i", (seed) => {
    const model = new Model(seed);
    for (let at = 0; at < 8; at++) model.putHost(`h${at}`);
    for (let step = 0; step < 700; step++) {
      model.step();
      if (step % 5 === 0) model.check();
      if (step % 50 === 0) model.checkRestored();
    }
    model.drain();
  });
});
