import { describe, expect, it } from "vitest";
import { demand, grantOf, host, schedulerOf, type Ask } from "./policy-fleet.ts";

const SMALL = { cpu: 0.5, memory: 256 };
const holdingFor = (scheduler: ReturnType<typeof schedulerOf>, id: string, ask: Ask) =>
  grantOf(scheduler.request(demand(id, { ...SMALL, ...ask }))).holding;

describe("GPUs", () => {
  it("gives each device once, and each again when it is released", () => {
    const scheduler = schedulerOf(host("a", { gpu: "H100:8" }));
    const given = [1, 2, 5].map((count) => holdingFor(scheduler, `${count}`, { gpu: `H100!:${count}` }).gpus);
    expect(new Set(given.flat()).size).toBe(8);
    expect(scheduler.request(demand("more", { ...SMALL, gpu: "H100!" })).kind).toBe("queued");
    scheduler.release("2");
    const [pumped] = scheduler.pump();
    expect(given[1]).toContain(pumped!.grant.holding.gpus[0]);
  });

  it("takes the host on which fewest are left over", () => {
    const scheduler = schedulerOf(host("a", { gpu: "L4:8" }), host("b", { gpu: "L4:4" }), host("c", { gpu: "L4:2" }));
    expect(holdingFor(scheduler, "1", { gpu: "L4" }).hostId).toBe("c");
    expect(holdingFor(scheduler, "2", { gpu: "L4" }).hostId).toBe("c");
    expect(holdingFor(scheduler, "3", { gpu: "L4:3" }).hostId).toBe("b");
    expect(holdingFor(scheduler, "4", { gpu: "L4" }).hostId).toBe("b");
    expect(holdingFor(scheduler, "5", { gpu: "L4:8" }).hostId).toBe("a");
  });

  it("goes by the order of the wishes over the whole fleet", () => {
    const scheduler = schedulerOf(host("a", { gpu: "A10:1" }), host("b", { gpu: "L4:1" }));
    expect(holdingFor(scheduler, "1", { gpu: "T4,L4,A10" }).hostId).toBe("b");
    expect(holdingFor(scheduler, "2", { gpu: "T4,L4,A10" }).hostId).toBe("a");
    expect(scheduler.request(demand("3", { ...SMALL, gpu: "T4,L4,A10" })).kind).toBe("queued");
  });

  it("has any of one type where it can, and several types of one host where it must", () => {
    const scheduler = schedulerOf(host("mixed", { gpu: "L4:2,T4:2" }), host("one", { gpu: "A10:4" }));
    expect(holdingFor(scheduler, "1", { gpu: "any:3" }).hostId).toBe("one");
    const mixed = holdingFor(scheduler, "2", { gpu: "any:3" });
    expect([mixed.hostId, new Set(mixed.gpus).size]).toEqual(["mixed", 3]);
    expect(holdingFor(scheduler, "3", { gpu: "any" }).gpus).toHaveLength(1);
    expect(scheduler.request(demand("4", { ...SMALL, gpu: "any:2" })).kind).toBe("queued");
  });

  it("has none that is in use by what is being removed, until that is gone", () => {
    const scheduler = schedulerOf(host("a", { gpu: "L4:2" }));
    scheduler.occupy("a", ["GPU-a-L4-0"]);
    expect(holdingFor(scheduler, "1", { gpu: "L4" }).gpus).toEqual(["GPU-a-L4-1"]);
    expect(scheduler.request(demand("2", { ...SMALL, gpu: "L4" })).kind).toBe("queued");
    expect(scheduler.pump()).toEqual([]);
    scheduler.occupy("a", []);
    expect(scheduler.pump()[0]!.grant.holding.gpus).toEqual(["GPU-a-L4-0"]);
  });

  it("keeps what it knows of devices when a host says that it has others", () => {
    const scheduler = schedulerOf(host("a", { gpu: "L4:2" }));
    const held = holdingFor(scheduler, "1", { gpu: "L4" }).gpus[0]!;
    scheduler.occupy("a", ["GPU-a-L4-1"]);
    scheduler.putHost(host("a", { gpu: "L4:3" }));
    expect(holdingFor(scheduler, "2", { gpu: "L4" }).gpus).toEqual(["GPU-a-L4-2"]);
    expect(scheduler.request(demand("3", { ...SMALL, gpu: "L4" })).kind).toBe("queued");
    scheduler.release("1");
    expect(scheduler.pump()[0]!.grant.holding.gpus).toEqual([held]);
  });

  it("takes what was promised before it knew the host, also more than there is", () => {
    const scheduler = schedulerOf();
    const old = { environment: "e", hostId: "a", cpu: 6, memory: 9000, gpus: ["GPU-a-L4-0"], isWarm: false };
    scheduler.restore({ id: "1", ...old });
    scheduler.restore({ id: "2", ...old });
    expect(scheduler.use("a")).toEqual({ sandboxes: 2, warm: 0, cpu: 12, memory: 18_000, gpus: 2 });
    scheduler.putHost(host("a", { gpu: "L4:2" }));
    expect(scheduler.request(demand("3", { ...SMALL, gpu: "L4:2" })).kind).toBe("queued");
    scheduler.release("1");
    expect(scheduler.pump()).toEqual([]);
    scheduler.release("2");
    expect(scheduler.pump()).toHaveLength(1);
    expect([...scheduler.holdingsOf("a")].map(({ id }) => id)).toEqual(["3"]);
    expect(scheduler.removeHost("a").map(({ id }) => id)).toEqual(["3"]);
    expect(scheduler.holding("3")).toBeUndefined();
  });
});
