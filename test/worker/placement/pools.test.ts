import { describe, expect, it } from "vitest";
import type { Pool } from "../../../src/contract/pool.ts";
import { call, problemOf } from "../client.ts";
import { terminate } from "../sandboxes.ts";
import { fakeHost } from "../worker.ts";
import { create, report, type HostOptions } from "./fleet.ts";
import { HOST, key, createPool, get, list, used, obey, createOne, specOf, eachInItsEnvironment } from "./pool-calls.ts";

eachInItsEnvironment();

describe("a pool", () => {
  it("has containers ordered, told of, taken by creates that ask for the same, and replaced", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 2, image: "fake", memory: 256, workdir: "/srv" });
    expect(pool).toMatchObject({ size: 2, image: "fake", memory: 256, workdir: "/srv", ready: 0, starting: 2 });
    const orders = (await report("a", HOST))!;
    expect(orders).toHaveLength(2);
    expect(orders[0]).toMatchObject({ image: "fake", memory: 256, workdir: "/srv" });
    await obey("a", orders);
    expect(await get(pool.pool_id)).toMatchObject({ ready: 2, starting: 0 });
    expect(await used("a")).toMatchObject({ sandboxes: 0, warm: 2, memory: 512 });

    const taken = await createOne({ image: "fake", memory: 256, workdir: "/srv", env: { A: "b" }, timeout: 60 });
    const { warm } = specOf(taken);
    expect(orders.map(({ warm_id }) => warm_id)).toContain(warm);
    expect(specOf(taken)).toMatchObject({ env: { A: "b" }, memory: 256 });
    // It stays ordered until the sandbox's own start has come to the host, beside the one in its stead.
    const after = (await report("a", HOST, {
      warm: [{ warm_id: orders.find(({ warm_id }) => warm_id !== warm)!.warm_id, state: "ready" }],
    }))!;
    expect(after.map(({ warm_id }) => warm_id)).toContain(warm);
    expect(after).toHaveLength(3);
    const container = { sandbox_id: taken, generation: 1, running: true };
    const settled = (await report("a", HOST, {
      containers: [container],
      warm: after
        .filter(({ warm_id }) => warm_id !== warm)
        .map(({ warm_id }) => ({ warm_id, state: "ready" as const })),
    }))!;
    expect(settled.map(({ warm_id }) => warm_id)).not.toContain(warm);
    expect(await get(pool.pool_id)).toMatchObject({ ready: 2 });
    expect(await used("a")).toMatchObject({ sandboxes: 1, warm: 2 });
  });

  it("serves a create with secrets, of which its containers know nothing before", async () => {
    await report("a", HOST);
    await createPool({ size: 1, image: "fake" });
    const orders = (await report("a", HOST))!;
    await obey("a", orders);
    await call("POST", "/v1/secrets", { key, json: { name: "s", values: { A: "of-the-secret", B: "b" } } });
    const { warm, env: variables } = specOf(await createOne({ image: "fake", secrets: ["s"], env: { B: "own" } }));
    expect(warm).toBe(orders[0]!.warm_id);
    expect(variables).toEqual({ A: "of-the-secret", B: "own" });
    expect(JSON.stringify([orders, await report("a", HOST), await list()])).not.toContain("of-the-secret");
  });

  it.each([
    [{ image: "other", memory: 256 }],
    [{ image: "fake" }],
    [{ image: "fake", memory: 256, cpu: 1 }],
    [{ image: "fake", memory: 256, workdir: "/tmp" }],
    [{ image: "fake", memory: 256, unencrypted_ports: [80] }],
  ])("serves no create that asks for something else: %j", async (json) => {
    await report("a", HOST);
    await createPool({ size: 1, image: "fake", memory: 256 });
    await obey("a", (await report("a", HOST))!);
    expect(specOf(await createOne(json)).warm).toBeUndefined();
  });

  it("serves no create with volumes, which are mounted as a container is made", async () => {
    const host = { ...HOST, volumes: true };
    await report("a", host);
    await createPool({ size: 1, image: "fake" });
    await obey("a", (await report("a", host))!, host);
    await call("POST", "/v1/volumes", { key, json: { name: "v" } });
    const { warm, volumes } = specOf(await createOne({ image: "fake", volumes: { "/v": { volume_id: "v" } } }));
    expect([warm, volumes?.length]).toEqual([undefined, 1]);
    expect(specOf(await createOne({ image: "fake", volumes: {} })).warm).toBeDefined();
  });

  it("serves no other environment, which does not even see it", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 1, image: "fake" });
    await obey("a", (await report("a", HOST))!);
    const stranger = await create({ image: "fake" });
    await expect.poll(() => fakeHost.containers.has(stranger)).toBe(true);
    expect(specOf(stranger).warm).toBeUndefined();
    await terminate(stranger);
    for (const [method, options] of [
      ["GET", {}],
      ["PATCH", { json: { size: 3 } }],
      ["DELETE", {}],
    ] as const)
      expect((await call(method, `/v1/pools/${pool.pool_id}`, options)).status).toBe(404);
    const { data } = (await (await call("GET", "/v1/pools")).json()) as { data: Pool[] };
    expect(data.map(({ pool_id }) => pool_id)).not.toContain(pool.pool_id);
  });

  it("gives each of its containers to one create only", async () => {
    await report("a", HOST);
    await createPool({ size: 3, image: "fake" });
    await obey("a", (await report("a", HOST))!);
    const ids = await Promise.all(Array.from({ length: 6 }, () => createOne({ image: "fake" })));
    const warm = ids.flatMap((id) => specOf(id).warm ?? []);
    expect(warm).toHaveLength(3);
    expect(new Set(warm).size).toBe(3);
  });

  it("gives way where there is no other room", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 2, image: "fake", memory: 2048 });
    const orders = await obey("a", (await report("a", HOST))!);
    const id = await createOne({ image: "other", memory: 1024 });
    expect(specOf(id).evict).toHaveLength(1);
    expect(orders.map(({ warm_id }) => warm_id)).toContain(specOf(id).evict![0]);
    expect(await get(pool.pool_id)).toMatchObject({ ready: 1, starting: 0 });
    const containers = [{ sandbox_id: id, generation: 1, running: true }];
    const left = orders.filter(({ warm_id }) => warm_id !== specOf(id).evict![0]);
    const warm = left.map(({ warm_id }) => ({ warm_id, state: "ready" as const }));
    expect(await report("a", HOST, { containers, warm })).toEqual(left);
    await call("DELETE", `/v1/sandboxes/${id}`, { key });
    await report("a", HOST, { warm }, Date.now() + 1100);
    expect((await get(pool.pool_id)).starting).toBe(1);
  });

  it("grows and shrinks, and goes", async () => {
    await report("a", HOST);
    const pool = await createPool({ size: 1, image: "fake" });
    const first = await obey("a", (await report("a", HOST))!);
    const patch = async (size: number) => {
      const response = await call("PATCH", `/v1/pools/${pool.pool_id}`, { key, json: { size } });
      expect([response.status, ((await response.json()) as Pool).size]).toEqual([200, size]);
      return (await report("a", HOST, { warm: first.map(({ warm_id }) => ({ warm_id, state: "ready" as const })) }))!;
    };
    expect(await patch(3)).toHaveLength(3);
    expect(await patch(1)).toEqual([expect.objectContaining({ warm_id: first[0]!.warm_id })]);
    expect(await patch(0)).toEqual([]);
    await patch(2);
    expect((await call("DELETE", `/v1/pools/${pool.pool_id}`, { key })).status).toBe(204);
    expect((await call("DELETE", `/v1/pools/${pool.pool_id}`, { key })).status).toBe(404);
    expect(await report("a", HOST)).toEqual([]);
    expect(await used("a")).toMatchObject({ warm: 0, memory: 0 });
  });

  it("has GPUs of its own", async () => {
    const options: HostOptions = { ...HOST, gpus: ["L4", 2] };
    await report("g", options);
    await createPool({ size: 1, image: "fake", gpu: "L4" });
    const orders = (await report("g", options))!;
    expect(orders[0]!.gpus).toHaveLength(1);
    await obey("g", orders, options);
    const [first, second] = [
      await createOne({ image: "fake", gpu: "L4" }),
      await createOne({ image: "other", gpu: "L4" }),
    ];
    expect(specOf(first).warm).toBe(orders[0]!.warm_id);
    expect(specOf(first).gpus).toEqual(orders[0]!.gpus);
    expect(specOf(second).gpus).not.toEqual(specOf(first).gpus);
  });

  it.each([
    [{}, "size", 400],
    [{ size: 0 }, "size", 400],
    [{ size: 101 }, "size", 400],
    [{ size: 1, sise: 2 }, "sise", 400],
    [{ size: 1, memory: 100_000 }, "memory", 422],
    [{ size: 1, gpu: "H100" }, "gpu", 422],
    [{ size: 1, region: "moon" }, "region", 422],
  ])("is refused that cannot be: %j", async (json, path, status) => {
    await report("a", HOST);
    const problem = await problemOf(await call("POST", "/v1/pools", { key, json }));
    expect(problem).toMatchObject({ status, errors: [{ path }] });
    expect((await list()).data).toEqual([]);
  });

  it("is refused where no host keeps containers ready", async () => {
    await report("a");
    const problem = await problemOf(await call("POST", "/v1/pools", { key, json: { size: 1, image: "fake" } }));
    expect(problem).toMatchObject({ status: 422, code: "unsupported_by_backend" });
  });

  it("is made once by a request that is repeated, and listed by pages", async () => {
    await report("a", HOST);
    const headers = { "idempotency-key": "pool-1" };
    const make = async () =>
      (await (await call("POST", "/v1/pools", { key, json: { size: 1, image: "fake" }, headers })).json()) as Pool;
    expect((await make()).pool_id).toBe((await make()).pool_id);
    await createPool({ size: 1, image: "fake" });
    const first = (await (await call("GET", "/v1/pools?limit=1", { key })).json()) as {
      data: Pool[];
      next_cursor: string;
    };
    const second = (await (await call("GET", `/v1/pools?limit=1&cursor=${first.next_cursor}`, { key })).json()) as {
      data: Pool[];
    };
    expect(new Set([...first.data, ...second.data].map(({ pool_id }) => pool_id)).size).toBe(2);
    expect(second).not.toHaveProperty("next_cursor");
  });
});
