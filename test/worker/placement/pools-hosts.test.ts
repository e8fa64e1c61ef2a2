import { abortAllDurableObjects, env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { openPlacement } from "../../../src/placement/client.ts";
import { hostId, report, type HostOptions } from "./fleet.ts";
import { HOST, createPool, get, obey, createOne, specOf, eachInItsEnvironment } from "./pool-calls.ts";

eachInItsEnvironment();

describe("a pool", () => {
  it("says why its containers do not start, and tries again later", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 1, image: "nope" });
    const [order] = (await report("a", HOST))!;
    const failed = { warm_id: order!.warm_id, state: "failed" as const, error: "the image nope cannot be pulled" };
    expect(await report("a", HOST, { warm: [failed] })).toEqual([]);
    expect(await get(pool.pool_id)).toMatchObject({ ready: 0, starting: 0, error: expect.stringContaining("pulled") });
    const again = (await report("a", HOST, {}, Date.now() + 5_100))!;
    expect(again).toHaveLength(1);
    expect(again[0]!.warm_id).not.toBe(order!.warm_id);
  });

  it("tries another host where one could not start what it was to, and counts once what failed at once", async () => {
    await report("a", HOST);
    await createPool({ size: 3, image: "fake" });
    const orders = (await report("a", HOST))!;
    await report("b", HOST);
    const failed = orders.map(({ warm_id }) => ({ warm_id, state: "failed" as const, error: "no space left" }));
    expect(await report("a", HOST, { warm: failed })).toEqual([]);
    const later = Date.now() + 5_100;
    await report("b", HOST, {}, later);
    expect(await report("a", HOST, {}, later)).toEqual([]);
    expect(await report("b", HOST, {}, later)).toHaveLength(3);
  });

  it("tries the same host again where there is no other", async () => {
    await report("a", HOST);
    await createPool({ size: 1, image: "fake" });
    const [order] = (await report("a", HOST))!;
    await report("a", HOST, { warm: [{ warm_id: order!.warm_id, state: "failed", error: "no space left" }] });
    expect(await report("a", HOST, {}, Date.now() + 5_100)).toHaveLength(1);
  });

  it("is elsewhere when its host, before it has started anything, keeps nothing ready any more", async () => {
    await report("a", HOST);
    await createPool({ size: 1, image: "fake" });
    await report("b", HOST);
    expect(await report("a", { ...HOST, warmPools: false })).toBeUndefined();
    expect(await report("b", HOST)).toHaveLength(1);
  });

  it("gives none whose host is not any more what is asked for", async () => {
    const nvme: HostOptions = { ...HOST, labels: { disk: "nvme" } };
    await report("a", nvme);
    const wanted = { image: "fake", host_labels: { disk: "nvme" } };
    await createPool({ size: 1, ...wanted });
    const orders = (await obey("a", (await report("a", nvme))!, nvme))!;
    await report("b", { memory: 4096, labels: { disk: "nvme" } });
    await obey("a", orders, { ...HOST, labels: { disk: "ssd" } });
    expect(specOf(await createOne(wanted)).warm).toBeUndefined();
    expect((await openPlacement(env).live([hostId("b")]))[hostId("b")]!.used.sandboxes).toBe(1);
  });

  it("gives one to a create with rules for its network only where its host holds them", async () => {
    const create = { image: "fake", outbound_cidr_allowlist: ["192.0.2.0/24"] };
    await report("a", HOST);
    await createPool({ size: 1, image: "fake" });
    await obey("a", (await report("a", HOST))!);
    const holding = { ...HOST, networkRules: true };
    await report("b", { ...holding, warmPools: false });
    expect(specOf(await createOne(create)).warm).toBeUndefined();
    const [order] = await obey("a", (await report("a", holding))!, holding);
    const { warm, network } = specOf(await createOne(create));
    expect(warm).toBe(order!.warm_id);
    expect(network).toEqual({ outbound: { cidrs: create.outbound_cidr_allowlist, domains: [] } });
  });

  it("makes anew what its host has lost, and is elsewhere when its host drains", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 1, image: "fake" });
    const [order] = (await report("a", HOST))!;
    await obey("a", [order!]);
    const [next] = (await report("a", HOST, { warm: [] }))!;
    expect(next!.warm_id).not.toBe(order!.warm_id);
    await report("b", HOST);
    await openPlacement(env).setDraining(hostId("a"), true);
    await expect.poll(async () => (await report("b", HOST))!.length).toBe(1);
    expect((await get(pool.pool_id)).starting).toBe(1);
  });

  it("survives the loss of the object that keeps it", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 1, image: "fake" });
    const orders = await obey("a", (await report("a", HOST))!);
    await abortAllDurableObjects();
    expect(await get(pool.pool_id)).toMatchObject({ ready: 1, starting: 0 });
    expect(specOf(await createOne({ image: "fake" })).warm).toBe(orders[0]!.warm_id);
  });
});
