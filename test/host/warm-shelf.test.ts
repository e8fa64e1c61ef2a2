import { afterEach, describe, expect, it, vi } from "vitest";
import { ApiError } from "../../src/contract/errors.ts";
import { WarmStatusSchema, type StartSpec, type WarmSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { StartFailure, type Container, type WarmContainer, type WarmSource } from "../../src/host/runtime.ts";
import { misfit } from "../../src/host/warm/misfit.ts";
import { GpuLedger } from "../../src/host/gpu-ledger.ts";
import { WarmShelf } from "../../src/host/warm/shelf.ts";
import { WarmStarts } from "../../src/host/warm/starts.ts";
import { until } from "./signed-host.ts";

const warmSpec = (): WarmSpec => ({ warm_id: newId("warm"), environment: "main", image: "one" });
const startSpec = (more: Partial<StartSpec> = {}): StartSpec => ({
  sandbox_id: newId("sandbox"),
  environment: "main",
  generation: 1,
  image: "one",
  env: {},
  raw_ports: [],
  lifetime_ms: 1000,
  ...more,
});

class FakeWarm implements WarmContainer {
  readonly spec: WarmSpec;
  readonly #end = Promise.withResolvers<void>();
  readonly ended = this.#end.promise;
  isDead = false;
  stops = 0;
  stopFailures = 0;
  adoptFailure: Error | undefined;

  constructor(spec: WarmSpec) {
    this.spec = spec;
  }

  async isAlive(): Promise<boolean> {
    return !this.isDead;
  }

  async adopt(spec: StartSpec): Promise<Container> {
    if (this.adoptFailure) throw this.adoptFailure;
    return { sandboxId: spec.sandbox_id, warm: this } as unknown as Container;
  }

  async stop(): Promise<void> {
    this.stops += 1;
    if (this.stopFailures-- > 0) throw new Error("the engine is away");
    this.#end.resolve();
  }
}

/** What is asked for is done when the test says so. */
class FakeSource implements WarmSource {
  readonly preparing = new Map<string, PromiseWithResolvers<void>>();
  readonly starting = new Map<string, PromiseWithResolvers<void>>();
  readonly made = new Map<string, FakeWarm>();
  isPrompt = true;

  async prepare({ warm_id }: WarmSpec): Promise<void> {
    await this.#step(this.preparing, warm_id);
  }

  async start(spec: WarmSpec): Promise<WarmContainer> {
    await this.#step(this.starting, spec.warm_id);
    const warm = new FakeWarm(spec);
    this.made.set(spec.warm_id, warm);
    return warm;
  }

  recovered(): WarmContainer[] {
    return [];
  }

  #step(at: Map<string, PromiseWithResolvers<void>>, id: string): Promise<void> {
    const step = Promise.withResolvers<void>();
    at.set(id, step);
    if (this.isPrompt) step.resolve();
    return step.promise;
  }
}

const source = () => new FakeSource();
const slow = () => Object.assign(new FakeSource(), { isPrompt: false });
const isReady = (shelf: WarmShelf, id: string) => () =>
  shelf.list().some(({ warm_id, state }) => warm_id === id && state === "ready");

async function readyOne(from: FakeSource) {
  const [shelf, spec] = [new WarmShelf(from, () => undefined), warmSpec()];
  shelf.converge([spec]);
  await until(isReady(shelf, spec.warm_id));
  return { shelf, spec, warm: from.made.get(spec.warm_id)! };
}

afterEach(() => vi.useRealTimers());

describe("the shelf", () => {
  it("starts two at once, in order, and tells of each", async () => {
    const from = slow();
    let news = 0;
    const shelf = new WarmShelf(from, () => (news += 1));
    const specs = [warmSpec(), warmSpec(), warmSpec()];
    const [one, other, third] = specs.map(({ warm_id }) => warm_id) as [string, string, string];
    shelf.converge(specs);
    expect([...from.preparing.keys()]).toEqual([one, other]);
    expect(shelf.list().map(({ state }) => state)).toEqual(["starting", "starting", "starting"]);
    from.preparing.get(one)!.resolve();
    await until(() => from.starting.has(one));
    expect(from.preparing.has(third)).toBe(false);
    from.starting.get(one)!.resolve();
    await until(() => from.preparing.has(third));
    expect([news, shelf.list()[0]]).toEqual([1, { warm_id: one, state: "ready" }]);
  });

  it("lets sandboxes go first, but not for ever", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
    const from = slow();
    const [shelf, specs] = [new WarmShelf(from, () => undefined), [warmSpec(), warmSpec(), warmSpec()]];
    shelf.converge(specs.slice(0, 1));
    const done = [shelf.makeWay(), shelf.makeWay()];
    shelf.converge(specs);
    expect(from.preparing.size).toBe(1);
    from.preparing.get(specs[0]!.warm_id)!.reject(new StartFailure("no"));
    await until(() => shelf.list()[0]!.state === "failed");
    expect(from.preparing.size).toBe(1);
    vi.setSystemTime(Date.now() + 10_001);
    shelf.converge(specs);
    expect(from.preparing.size).toBe(2);
    done[0]!();
    expect(from.preparing.size).toBe(2);
    done[1]!();
    expect(from.preparing.size).toBe(3);
  });

  it("does not start what is unwanted by then, and removes what is just starting", async () => {
    const from = slow();
    const [shelf, one, other] = [new WarmShelf(from, () => undefined), warmSpec(), warmSpec()];
    shelf.converge([one, other]);
    from.preparing.get(other.warm_id)!.resolve();
    await until(() => from.starting.has(other.warm_id));
    let isGone = false;
    const gone = shelf.evict([one.warm_id, other.warm_id]).then(() => (isGone = true));
    from.preparing.get(one.warm_id)!.resolve();
    await new Promise((wake) => setTimeout(wake, 30));
    expect([isGone, from.starting.has(one.warm_id)]).toEqual([false, false]);
    from.starting.get(other.warm_id)!.resolve();
    await gone;
    expect(from.made.get(other.warm_id)!.stops).toBe(1);
    // Ordered by who has not heard of it yet.
    shelf.converge([one, other]);
    expect(shelf.list()).toEqual([]);
  });

  it("makes room at once where nothing is here yet", async () => {
    const from = slow();
    const [shelf, spec] = [new WarmShelf(from, () => undefined), warmSpec()];
    shelf.converge([spec]);
    await shelf.evict([spec.warm_id]);
    expect(from.starting.size).toBe(0);
  });

  it("says when it could not make room, and tries again", async () => {
    const { shelf, spec, warm } = await readyOne(source());
    warm.stopFailures = 2;
    await expect(shelf.evict([spec.warm_id])).rejects.toThrow("the engine is away");
    await expect(shelf.evict([spec.warm_id])).rejects.toThrow("the engine is away");
    shelf.converge([]);
    await until(() => warm.stops === 3);
    shelf.converge([]);
    expect(warm.stops).toBe(3);
  });

  it(
    "does not wait for an image that is still being pulled, and waits a while for a start",
    { timeout: 10_000 },
    async () => {
      const from = slow();
      const [shelf, pulled, late] = [new WarmShelf(from, () => undefined), warmSpec(), warmSpec()];
      shelf.converge([pulled, late]);
      expect(await shelf.take(startSpec({ warm: pulled.warm_id }))).toBeUndefined();
      from.preparing.get(late.warm_id)!.resolve();
      await until(() => from.starting.has(late.warm_id));
      const taken = shelf.take(startSpec({ warm: late.warm_id }));
      setTimeout(() => from.starting.get(late.warm_id)!.resolve(), 2_300);
      expect(await taken).toBeUndefined();
      expect(from.made.get(late.warm_id)!.stops).toBe(1);
      expect(shelf.list()).toEqual([]);
    },
  );

  it("keeps what failed to be told of, as long as it is ordered", async () => {
    const from = slow();
    const [shelf, spec] = [new WarmShelf(from, () => undefined), warmSpec()];
    shelf.converge([spec]);
    from.preparing.get(spec.warm_id)!.reject(new StartFailure("x".repeat(3000)));
    await until(() => shelf.list()[0]!.state === "failed");
    expect(WarmStatusSchema.parse(shelf.list()[0]).error).toMatch(/^x{2000}$/);
    shelf.converge([spec]);
    expect(from.preparing.size).toBe(1);
    expect(await shelf.take(startSpec({ warm: spec.warm_id }))).toBeUndefined();
    shelf.converge([spec]);
    expect(shelf.list()).toEqual([]);
  });

  it("hands out nothing that is dead", async () => {
    const { shelf, spec, warm } = await readyOne(source());
    warm.isDead = true;
    expect(await shelf.take(startSpec({ warm: spec.warm_id }))).toBeUndefined();
    expect(warm.stops).toBe(1);
  });

  it("has nothing to do with what it has handed out", async () => {
    const { shelf, spec, warm } = await readyOne(source());
    expect(await shelf.take(startSpec({ warm: spec.warm_id }))).toBe(warm);
    shelf.converge([]);
    await shelf.evict([spec.warm_id]);
    await shelf.clear();
    expect(warm.stops).toBe(0);
  });
});

const NO_GPUS = new GpuLedger({ present: () => [] });

describe("a start", () => {
  const cold = { sandboxId: "cold" } as Container;
  const runtime = { start: async () => cold, recover: async () => [] };

  it("is a new one where the warm one fails as a new one need not", async () => {
    const { shelf, spec, warm } = await readyOne(source());
    warm.adoptFailure = new ApiError("sandbox_ended");
    expect(await new WarmStarts(runtime, shelf, NO_GPUS).start(startSpec({ warm: spec.warm_id }))).toBe(cold);
  });

  it("fails where a new one would", async () => {
    for (const failure of [new StartFailure("no such program"), new ApiError("unsupported_by_backend")]) {
      const { shelf, spec, warm } = await readyOne(source());
      warm.adoptFailure = failure;
      await expect(new WarmStarts(runtime, shelf, NO_GPUS).start(startSpec({ warm: spec.warm_id }))).rejects.toBe(
        failure,
      );
    }
  });
});

describe("a container fits", () => {
  const source = { repository: "r", digest: `sha256:${"0".repeat(64)}`, token: "t" };
  const made: WarmSpec = {
    ...warmSpec(),
    cpu: 1,
    memory: 64,
    workdir: "/w",
    gpus: ["GPU-a", "GPU-b"],
    image_source: source,
  };
  const { warm_id, ...same } = made;

  it("what is the same, whatever else is asked for", () => {
    const asked = { entrypoint: ["true"], env: { A: "b" }, pty: { rows: 1, cols: 1 }, warm: warm_id };
    expect(misfit(made, startSpec({ ...same, ...asked }))).toBeUndefined();
    const equal = { gpus: ["GPU-b", "GPU-a"], image_source: { ...source, token: "other" } };
    expect(misfit(made, startSpec({ ...same, ...equal }))).toBeUndefined();
  });

  it.each<[string, Partial<StartSpec>]>([
    ["environment", { environment: "other" }],
    ["image", { image: "other" }],
    ["image_source", { image_source: { ...source, digest: `sha256:${"1".repeat(64)}` } }],
    ["cpu", { cpu: 2 }],
    ["memory", { memory: 65 }],
    ["gpus", { gpus: ["GPU-a"] }],
    ["workdir", { workdir: "/" }],
    ["raw_ports", { raw_ports: [80] }],
  ])("not another %s", (field, other) => {
    expect(misfit(made, startSpec({ ...same, ...other }))).toBe(field);
  });
});
