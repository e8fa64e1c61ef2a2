import { describe, expect, it } from "vitest";
import { Scheduler } from "../../../src/placement/policy/scheduler.ts";
import { demand, grantOf, host, onlyOn, schedulerOf, type Ask } from "./policy-fleet.ts";

const granted = (scheduler: Scheduler) => scheduler.pump().map(({ demand }) => demand.id);
const held = (scheduler: Scheduler) =>
  Array.from({ length: 10 }, (_, at) => Array.from(scheduler.holdingsOf(`h${at}`))).flat();
const ask = (scheduler: Scheduler, id: string, since: number, of: Ask = {}) =>
  scheduler.request(demand(id, { since, ...of })).kind;

describe("who waits", () => {
  it("goes in the order in which it came, however it was asked again", () => {
    const scheduler = schedulerOf(host("a", { cpu: 1 }));
    grantOf(scheduler.request(demand("0")));
    for (const at of [1, 2, 3]) expect(ask(scheduler, `${at}`, at)).toBe("queued");
    expect(ask(scheduler, "1", 99)).toBe("queued");
    expect(ask(scheduler, "old", 0)).toBe("queued");
    for (const next of ["old", "1", "2", "3"]) {
      scheduler.release([...scheduler.holdingsOf("a")][0]!.id);
      expect(granted(scheduler)).toEqual([next]);
    }
  });

  it("is not overtaken by a new one for the room that became free", () => {
    const scheduler = schedulerOf(host("a", { cpu: 4 }));
    grantOf(scheduler.request(demand("0", { cpu: 4 })));
    expect(ask(scheduler, "large", 1, { cpu: 4 })).toBe("queued");
    scheduler.release("0");
    expect(ask(scheduler, "small", 2, { cpu: 1 })).toBe("queued");
    expect(granted(scheduler)).toEqual(["large"]);
  });

  it("lets others by where it has no room itself", () => {
    const scheduler = schedulerOf(host("a", { cpu: 4 }));
    grantOf(scheduler.request(demand("0", { cpu: 2 })));
    expect(ask(scheduler, "large", 1, { cpu: 4 })).toBe("queued");
    expect(ask(scheduler, "small", 2, { cpu: 2 })).toBe("granted");
  });

  it("is refused where too many wait, of its environment or of all", () => {
    const scheduler = new Scheduler({ perEnvironment: 2, total: 3 });
    const kinds = ["a", "a", "a", "b", "b", "c"].map((environment, at) =>
      scheduler.request(demand(`${at}`, { environment })),
    );
    expect(kinds).toEqual([
      { kind: "queued" },
      { kind: "queued" },
      { kind: "full", whose: "environment" },
      { kind: "queued" },
      { kind: "full", whose: "deployment" },
      { kind: "full", whose: "deployment" },
    ]);
    expect([scheduler.queued(), scheduler.queued("a"), scheduler.queued("c")]).toEqual([3, 2, 0]);
    scheduler.cancel("0");
    expect(ask(scheduler, "9", 1, { environment: "c" })).toBe("queued");
    scheduler.putHost(host("h"));
    expect(granted(scheduler)).toHaveLength(3);
  });

  it("loses its place to nobody when a host is excluded for it, and has any other", () => {
    const scheduler = schedulerOf(host("a", { cpu: 1 }), host("b", { cpu: 1 }));
    for (const id of ["x", "y"]) grantOf(scheduler.request(demand(id)));
    expect(ask(scheduler, "1", 1)).toBe("queued");
    expect(ask(scheduler, "2", 2)).toBe("queued");
    expect(scheduler.request(demand("1", { since: 1 }), new Set(["a"])).kind).toBe("queued");
    scheduler.release([...scheduler.holdingsOf("a")][0]!.id);
    expect(granted(scheduler)).toEqual(["2"]);
    scheduler.release([...scheduler.holdingsOf("b")][0]!.id);
    expect(granted(scheduler)).toEqual(["1"]);
  });

  it("waits no longer than for what ends next, when it holds less than the one that floods", () => {
    const scheduler = schedulerOf(...Array.from({ length: 10 }, (_, at) => host(`h${at}`, { cpu: 4 })));
    const running: string[] = [];
    for (let at = 0; at < 1000; at++) {
      const one = demand(`flood-${at}`, { environment: "flood", since: at });
      if (scheduler.request(one).kind === "granted") running.push(one.id);
    }
    for (let at = 0; at < 10; at++) {
      ask(scheduler, `small-${at}`, 2000 + at, { environment: "small" });
      scheduler.release(running.shift()!);
      expect(granted(scheduler)).toEqual([`small-${at}`]);
    }
    // Both want all there is: each comes to have half of it.
    for (let at = 10; at < 100; at++) ask(scheduler, `small-${at}`, 2000 + at, { environment: "small" });
    for (let at = 0; at < 200; at++) {
      const holders = held(scheduler).filter(({ environment }) => environment === (at % 2 ? "small" : "flood"));
      scheduler.release(holders[at % holders.length]!.id);
      for (const { demand } of scheduler.pump()) ask(scheduler, `again-${at}`, at, { environment: demand.environment });
    }
    const ofSmall = held(scheduler).filter(({ environment }) => environment === "small").length;
    expect(Math.abs(ofSmall - 20)).toBeLessThanOrEqual(1);
  });

  it.each(["main", "other"])("that is large is not starved by small ones of environment %s", (environment) => {
    const scheduler = schedulerOf(...Array.from({ length: 4 }, (_, at) => host(`h${at}`, { cpu: 8, gpu: "L4:8" })));
    const small = { cpu: 1, gpu: "L4" };
    const running: string[] = [];
    let made = 0;
    const more = () => {
      const id = `small-${made++}`;
      if (scheduler.request(demand(id, { ...small, environment, since: made })).kind === "granted") running.push(id);
    };
    for (let at = 0; at < 40; at++) more();
    ask(scheduler, "large", 40, { cpu: 8, gpu: "L4:8" });
    let steps = 0;
    while (!scheduler.holding("large") && steps++ < 1000) {
      // Those end in an order that leaves no host empty by itself.
      scheduler.release(running.splice((steps * 7) % running.length, 1)[0]!);
      for (const { demand } of scheduler.pump()) if (demand.id !== "large") running.push(demand.id);
      more();
    }
    expect(steps).toBeLessThan(150);
    // What it does not need of the host that was kept for it was there for others all the time.
    expect(scheduler.totals().used.gpus).toBeGreaterThan(24);
    scheduler.release("large");
    expect(granted(scheduler).length).toBeGreaterThanOrEqual(8);
  });

  it("has what is free at once, also where something else has just changed", () => {
    const scheduler = schedulerOf(host("a", { cpu: 4 }), host("b", { cpu: 1 }));
    grantOf(scheduler.request(demand("0", { cpu: 4 })));
    expect(ask(scheduler, "large", 1, { cpu: 4 })).toBe("queued");
    scheduler.release("0");
    expect(ask(scheduler, "small", 2, { hosts: onlyOn("b") })).toBe("queued");
    expect(granted(scheduler).toSorted()).toEqual(["large", "small"]);
  });

  it("has what was kept for one who waits no longer", () => {
    const { scheduler, free } = keptForLarge();
    free(2);
    expect(granted(scheduler)).toEqual([]);
    scheduler.cancel("large");
    expect(granted(scheduler)).toHaveLength(2);
  });

  it("has what is kept for a younger one of its environment that wants more", () => {
    const { scheduler, free } = keptForLarge();
    expect(ask(scheduler, "older", 0, { environment: "large", cpu: 2 })).toBe("queued");
    free(3);
    expect(granted(scheduler)).toEqual([]);
    free(1);
    expect(granted(scheduler)).toEqual(["older"]);
    free(2);
    expect(granted(scheduler)).toEqual(["large"]);
  });
});

/** One host full of small ones, more of which wait, and of which all that becomes free is kept for `large`. */
function keptForLarge() {
  const scheduler = schedulerOf(host("a", { cpu: 8 }));
  const free = (count: number) => {
    const small = Array.from(scheduler.holdingsOf("a")).filter(({ environment }) => environment === "main");
    for (const { id } of small.slice(0, count)) scheduler.release(id);
  };
  for (let at = 0; at < 200; at++) ask(scheduler, `small-${at}`, at);
  ask(scheduler, "large", 50, { environment: "large", cpu: 4 });
  for (let at = 0; at < 100 && scheduler.totals().kept === 0; at++) {
    free(1);
    scheduler.pump();
  }
  expect(scheduler.totals().kept).toBe(1);
  return { scheduler, free };
}
