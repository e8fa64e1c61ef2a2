import { describe, expect, it } from "vitest";
import { demand, grantOf, host, schedulerOf, type Ask } from "./policy-fleet.ts";

const warmOn = (scheduler: ReturnType<typeof schedulerOf>, id: string, ask: Ask) =>
  scheduler.place(demand(id, { environment: "pool", ...ask }));

describe("warm containers", () => {
  it("give way to a sandbox that has no other room: the fewest, and of these the smallest", () => {
    const scheduler = schedulerOf(host("a", { cpu: 8 }));
    for (const [id, cpu] of [
      ["w1", 1],
      ["w2", 2],
      ["w4", 4],
    ] as const)
      warmOn(scheduler, id, { cpu, memory: 128 });
    const one = grantOf(scheduler.request(demand("s3", { cpu: 3 })));
    expect(one.evicted).toEqual(["w2"]);
    expect(scheduler.holding("w2")).toBeUndefined();
    expect(grantOf(scheduler.request(demand("s5", { cpu: 5 }))).evicted.toSorted()).toEqual(["w1", "w4"]);
    expect(scheduler.use("a")).toMatchObject({ sandboxes: 2, warm: 0, cpu: 8 });
    expect(scheduler.request(demand("s1", { cpu: 1 })).kind).toBe("queued");
  });

  it("give their devices too, but not while there are free ones elsewhere", () => {
    const scheduler = schedulerOf(host("a", { gpu: "L4:2" }), host("b", { gpu: "L4:2" }));
    const warm = warmOn(scheduler, "w", { gpu: "L4" })!.holding;
    expect(grantOf(scheduler.request(demand("1", { gpu: "L4:2" }))).evicted).toEqual([]);
    const second = grantOf(scheduler.request(demand("2", { gpu: "L4:2" })));
    expect(second.evicted).toEqual(["w"]);
    expect(second.holding.gpus).toContain(warm.gpus[0]);
  });

  it("that stay keep their devices", () => {
    const scheduler = schedulerOf(host("a", { gpu: "L4:2" }));
    const held = ["w1", "w2"].map((id) => warmOn(scheduler, id, { gpu: "L4" })!.holding);
    const { holding, evicted } = grantOf(scheduler.request(demand("1", { gpu: "L4" })));
    expect(evicted).toHaveLength(1);
    expect(holding.gpus).toEqual(held.find(({ id }) => id === evicted[0])!.gpus);
  });

  it("take no room that somebody waits for, and evict nobody", () => {
    const scheduler = schedulerOf(host("a", { cpu: 4 }));
    warmOn(scheduler, "w1", { cpu: 2 });
    expect(warmOn(scheduler, "w2", { cpu: 4 })).toBeUndefined();
    expect(scheduler.queued()).toBe(0);
    grantOf(scheduler.request(demand("1", { cpu: 4 })));
    expect(scheduler.request(demand("2", { cpu: 4 })).kind).toBe("queued");
    scheduler.release("1");
    expect(warmOn(scheduler, "w3", { cpu: 1 })).toBeUndefined();
    expect(scheduler.pump().map(({ demand }) => demand.id)).toEqual(["2"]);
  });

  it("become the sandbox's, with their devices, and give way no more", () => {
    const scheduler = schedulerOf(host("a", { gpu: "L4:1" }));
    const warm = warmOn(scheduler, "w", { gpu: "L4" })!.holding;
    const mine = scheduler.hand("w", demand("1", { environment: "mine", gpu: "L4" }));
    expect(mine).toEqual({ ...warm, id: "1", environment: "mine", isWarm: false });
    expect(scheduler.hand("w", demand("2", { gpu: "L4" }))).toBeUndefined();
    expect(scheduler.hand("w", demand("1", { gpu: "L4" }))).toEqual(mine);
    expect(scheduler.request(demand("2", { gpu: "L4" })).kind).toBe("queued");
    expect(scheduler.hand("1", demand("2", { gpu: "L4" }))).toBeUndefined();
  });
});
