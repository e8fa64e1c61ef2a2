import { describe, expect, it } from "vitest";
import type { HostClass } from "../../../src/placement/policy/model.ts";
import { demand, grantOf, host, inRegion, onlyOn, schedulerOf, type Ask } from "./policy-fleet.ts";

const hostFor = (scheduler: ReturnType<typeof schedulerOf>, id: string, ask?: Ask, excluded?: Set<string>) =>
  grantOf(scheduler.request(demand(id, ask), excluded)).holding.hostId;

describe("where something goes", () => {
  it("fills a host before it takes the next, so that large ones find room", () => {
    const scheduler = schedulerOf(host("a"), host("b"));
    const first = hostFor(scheduler, "1");
    expect(hostFor(scheduler, "2")).toBe(first);
    expect(hostFor(scheduler, "large", { cpu: 8 })).not.toBe(first);
  });

  it("has cores overcommitted, but none has more than there are", () => {
    const scheduler = schedulerOf(host("a", { cpu: 4, overcommit: 2 }));
    expect(scheduler.request(demand("large", { cpu: 5 })).kind).toBe("queued");
    scheduler.cancel("large");
    expect(hostFor(scheduler, "1", { cpu: 4 })).toBe("a");
    expect(hostFor(scheduler, "2", { cpu: 4 })).toBe("a");
    expect(scheduler.request(demand("3", { cpu: 0.1 })).kind).toBe("queued");
  });

  it("gives exactly what is released, also of odd sizes", () => {
    const scheduler = schedulerOf(host("a", { cpu: 1 }));
    for (let round = 0; round < 50; round++) {
      for (let at = 0; at < 10; at++) hostFor(scheduler, `${at}`, { cpu: 0.1 });
      expect(scheduler.place(demand("more", { cpu: 0.001 }))).toBeUndefined();
      for (let at = 0; at < 10; at++) scheduler.release(`${at}`);
    }
    expect(scheduler.totals().used).toEqual({ sandboxes: 0, warm: 0, cpu: 0, memory: 0, gpus: 0 });
  });

  it("prefers the host that has the image, however full the others are", () => {
    const scheduler = schedulerOf(host("a"), host("b", { images: ["im-1"] }), host("c"));
    hostFor(scheduler, "1", { image: "im-1" });
    scheduler.release("1");
    scheduler.restore({ id: "x", environment: "e", hostId: "a", cpu: 4, memory: 1, gpus: [], isWarm: false });
    expect(hostFor(scheduler, "2", { image: "im-1" })).toBe("b");
    expect(hostFor(scheduler, "3", { image: "im-2" })).toBe("a");
    scheduler.putHost(host("c", { images: ["im-2"] }));
    expect(hostFor(scheduler, "4", { image: "im-2" })).toBe("c");
  });

  it("finds the few free of many hosts that have the image", () => {
    const hosts = Array.from({ length: 300 }, (_, at) => host(`h${at}`, at % 2 ? { images: ["im-1"] } : {}));
    const scheduler = schedulerOf(...hosts);
    for (let at = 0; at < 150 * 8 - 1; at++) hostFor(scheduler, `${at}`, { image: "im-1", memory: 128 });
    expect(Number(hostFor(scheduler, "last", { image: "im-1", memory: 128 }).slice(1)) % 2).toBe(1);
    expect(Number(hostFor(scheduler, "more", { image: "im-1", memory: 128 }).slice(1)) % 2).toBe(0);
  });

  it("keeps hosts with GPUs free of what needs none, while there are others", () => {
    const scheduler = schedulerOf(host("gpu", { gpu: "H100:8" }), host("cpu"));
    expect(hostFor(scheduler, "1", { cpu: 8 })).toBe("cpu");
    expect(hostFor(scheduler, "2", { cpu: 8 })).toBe("gpu");
  });

  it("has only hosts of the class, only the host of an image that is nowhere else, and none that is excluded or closed", () => {
    const scheduler = schedulerOf(
      host("a", { region: "eu" }),
      host("b", { region: "us" }),
      host("c", { region: "us", isOpen: false }),
    );
    expect(hostFor(scheduler, "1", { hosts: inRegion("eu") })).toBe("a");
    expect(hostFor(scheduler, "2", { hosts: onlyOn("b") })).toBe("b");
    expect(scheduler.request(demand("3", { hosts: onlyOn("c") })).kind).toBe("queued");
    expect(scheduler.request(demand("4", { hosts: inRegion("us") }), new Set(["b"])).kind).toBe("queued");
    scheduler.putHost(host("c", { region: "us" }));
    expect(scheduler.pump().map(({ grant }) => grant.holding.hostId)).toEqual(["c", "c"]);
  });

  it("takes hosts that know no bounds last, the one with the fewest first", () => {
    const scheduler = schedulerOf(
      host("x", { isBoundless: true }),
      host("y", { isBoundless: true }),
      host("a", { cpu: 1 }),
    );
    expect(hostFor(scheduler, "1")).toBe("a");
    expect(new Set([hostFor(scheduler, "2", { cpu: 99 }), hostFor(scheduler, "3")])).toEqual(new Set(["x", "y"]));
    expect(scheduler.request(demand("4", { gpu: "any" })).kind).toBe("queued");
  });

  it("answers the same again, and moves what was on a host that is excluded", () => {
    const scheduler = schedulerOf(host("a"), host("b"));
    const first = grantOf(scheduler.request(demand("1")));
    expect(grantOf(scheduler.request(demand("1")))).toEqual(first);
    const moved = hostFor(scheduler, "1", {}, new Set([first.holding.hostId]));
    expect(moved).not.toBe(first.holding.hostId);
    expect(scheduler.totals().used.sandboxes).toBe(1);
  });

  it("says which field nothing can serve, and what there is", () => {
    const scheduler = schedulerOf(
      host("a", { cpu: 8, memory: 1000 }),
      host("b", { cpu: 4, memory: 9000, gpu: "L4:4", isOpen: false, region: "eu" }),
    );
    expect(scheduler.impossible(demand("1", { cpu: 8, memory: 1000 }))).toBeUndefined();
    expect(scheduler.impossible(demand("1", { gpu: "T4,L4:4" }))).toBeUndefined();
    expect(scheduler.impossible(demand("1", { gpu: "any:4" }))).toBeUndefined();
    expect(scheduler.impossible(demand("1", { cpu: 9 }))).toEqual([
      { path: "cpu", message: "must be at most 8: no host has more" },
    ]);
    expect(scheduler.impossible(demand("1", { cpu: 8, gpu: "L4" }))).toEqual([
      { path: "cpu", message: "must be at most 4: no host with such GPUs has more" },
    ]);
    expect(scheduler.impossible(demand("1", { cpu: 8, memory: 9000 }))).toEqual([
      { path: "memory", message: "must be at most 1000 with 8 cores: no host has more" },
    ]);
    expect(scheduler.impossible(demand("1", { gpu: "H100" }))).toEqual([
      { path: "gpu", message: "is on no host: at most L4:4" },
    ]);
    const hosts = { ...inRegion("us"), refusal: () => [{ path: "region", message: "must be eu" }] };
    expect(scheduler.impossible(demand("1", { hosts }))).toEqual([{ path: "region", message: "must be eu" }]);
    expect(schedulerOf().impossible(demand("1"))).toBeUndefined();
  });

  it("knows hosts apart that are nearly the same: by their labels, and by the last MiB", () => {
    const hosts = Array.from({ length: 100 }, (_, at) => {
      const one = host(`h${at}`, { memory: 16_400 + at });
      one.info.labels = { name: `${at}`, parity: at % 2 ? "odd" : "even" };
      return one;
    });
    const scheduler = schedulerOf(...hosts);
    const labelled = (label: string, value: string): HostClass => ({
      key: `${label}=${value}`,
      admits: ({ labels }) => labels?.[label] === value,
    });
    expect(hostFor(scheduler, "1", { hosts: labelled("name", "42") })).toBe("h42");
    const odd = Array.from({ length: 60 }, (_, at) =>
      scheduler.request(demand(`odd-${at}`, { cpu: 8, hosts: labelled("parity", "odd") })),
    );
    expect(odd.filter(({ kind }) => kind === "granted")).toHaveLength(50);
    expect(hostFor(scheduler, "2", { memory: 16_498 })).toBe("h98");
  });
});
