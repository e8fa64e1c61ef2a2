import { env, runDurableObjectAlarm } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { openPlacement } from "../../../src/placement/client.ts";
import { newId } from "../../../src/contract/ids.ts";
import { call, problemOf } from "../client.ts";
import { getSandbox, objectOf, terminate } from "../sandboxes.ts";
import { fakeHost } from "../worker.ts";
import { hostId, report, reportOf, started } from "./fleet.ts";
import { createOne, specOf, live, request, withoutHosts } from "./placing.ts";

withoutHosts();

describe("what no host has", () => {
  beforeEach(async () => {
    await report("g", { cpu: 8, memory: 4096, gpus: ["L4", 2], region: "rack-a", labels: { disk: "nvme" } });
  });

  it.each([
    [{ gpu: "H100" }, "gpu", /L4/],
    [{ gpu: "RTX-9999" }, "gpu", /L4/],
    [{ gpu: "L4:3" }, "gpu", /2/],
    [{ cpu: 9 }, "cpu", /8/],
    [{ memory: 4097 }, "memory", /4096/],
    [{ region: "moon" }, "region", /rack-a/],
    [{ host_labels: { disk: "ssd" } }, "host_labels.disk", /nvme/],
    [{ host_labels: { rack: "1" } }, "host_labels.rack", /rack/],
  ])("is refused, naming the field and what there is: %j", async (json, path, message) => {
    const problem = await problemOf(await call("POST", "/v1/sandboxes", { json }));
    expect(problem).toMatchObject({ status: 422, code: "unsupported_by_backend", errors: [{ path }] });
    expect((problem["errors"] as { message: string }[])[0]!.message).toMatch(message);
  });

  it.each([
    [{ gpu: "L4:0" }, "gpu"],
    [{ gpu: "L4:9" }, "gpu"],
    [{ gpu: "L4,,H100" }, "gpu"],
    [{ backend: "k8s" }, "backend"],
    [{ region: "Über" }, "region"],
    [{ env: { NVIDIA_VISIBLE_DEVICES: "all" } }, "env.NVIDIA_VISIBLE_DEVICES"],
  ])("and what is none is not valid: %j", async (json, path) => {
    const problem = await problemOf(await call("POST", "/v1/sandboxes", { json }));
    expect(problem).toMatchObject({ status: 400, code: "invalid_request", errors: [{ path }] });
  });
});

describe("room", () => {
  it("is waited for", async () => {
    await report("a", { memory: 1024 });
    const first = await createOne({ memory: 1024 });
    await expect.poll(() => started([first])).toHaveLength(1);
    const second = await createOne({ memory: 512 });
    await new Promise((wake) => setTimeout(wake, 300));
    expect((await getSandbox(second)).state).toBe("created");
    await terminate(first);
    await expect.poll(() => started([second])).toHaveLength(1);
  });

  it("is where the image is, and with the tightest fit", async () => {
    await report("a", { memory: 8192 }, { references: ["other"] });
    await report("b", { memory: 4096 }, { references: ["fake"] });
    await report("c", { memory: 2048 }, { references: ["fake"] });
    const id = await createOne({ image: "fake", memory: 1024 });
    await expect.poll(() => started([id])).toHaveLength(1);
    expect((await live("c")).memory).toBe(1024);
  });

  it("is not on a host that drains, and what runs there goes on", async () => {
    await report("a");
    await report("b");
    const first = await createOne({});
    await expect.poll(() => started([first])).toHaveLength(1);
    const [home, other] = (await live("a")).sandboxes === 1 ? ["a", "b"] : ["b", "a"];
    expect((await call("PATCH", `/v1/hosts/${hostId(home)}`, { json: { draining: true } })).status).toBe(200);
    const more = await Promise.all(Array.from({ length: 5 }, () => createOne({})));
    await expect.poll(() => started(more)).toHaveLength(5);
    expect((await live(other)).sandboxes).toBe(5);
    expect(await getSandbox(first)).toMatchObject({ state: "ready" });
    expect((await call("PATCH", `/v1/hosts/${hostId(home)}`, { json: { draining: false } })).status).toBe(200);
  });

  it("is elsewhere once a host has fallen silent", async () => {
    await report("a", {}, {}, Date.now() - 16_000);
    await report("b");
    const id = await createOne({});
    await expect.poll(() => started([id])).toHaveLength(1);
    expect((await live("b")).sandboxes).toBe(1);
  });

  it("is not where a key says that was revoked, from then on", async () => {
    await report("a");
    const placement = openPlacement(env);
    const waiting = request();
    await placement.admit(waiting);
    const path = `/v1/hosts/${hostId("a")}/rotate-key`;
    expect((await call("POST", path, { json: { revoke: true } })).status).toBe(202);
    expect(await placement.locate(hostId("a"))).toBeUndefined();
    expect(await placement.reserve(waiting, { excluded: [], waitMs: 0 })).toHaveProperty("why");
    // One that was on its way.
    const late = placement.report(reportOf("a"), { draining: false, keyVersion: 1 });
    await expect(late).rejects.toMatchObject({ code: "unauthenticated" });
    await placement.report(reportOf("a"), { draining: false, keyVersion: 2 });
    expect(await placement.reserve(waiting, { excluded: [], waitMs: 0 })).toMatchObject({ place: { keyVersion: 2 } });
    await placement.release(waiting.sandboxId);
  });

  it("is told to whoever asks for it, and is the one that is reserved", async () => {
    await report("a", { memory: 256 });
    const placement = openPlacement(env);
    const [first, second] = [request({ create: { memory: 256 } }), request({ create: { memory: 256 } })];
    const { place } = await placement.admit(first);
    expect(place).toMatchObject({ kind: "host", hostId: hostId("a") });
    expect(await placement.reserve(first, { excluded: [], waitMs: 0 })).toEqual({ place });
    expect((await placement.admit(second)).place).toBeUndefined();
    await Promise.all([first, second].map(({ sandboxId }) => placement.release(sandboxId)));
  });

  it("that nobody uses is given back", async () => {
    const sandboxId = newId("sandbox");
    const then = Date.now();
    await report("a");
    await openPlacement(env).admit(request({ sandboxId }));
    expect((await live("a")).sandboxes).toBe(1);
    await report("a", {}, {}, then + 59_000);
    expect((await live("a")).sandboxes).toBe(1);
    await report("a", {}, {}, then + 61_000);
    await expect.poll(async () => (await live("a")).sandboxes).toBe(0);
  });

  it("that a sandbox uses is kept, though its host does not tell of it just now", async () => {
    const then = Date.now();
    await report("a");
    const id = await createOne({});
    await expect.poll(() => started([id])).toHaveLength(1);
    await report("a", {}, {}, then + 61_000);
    await new Promise((wake) => setTimeout(wake, 100));
    expect((await live("a")).sandboxes).toBe(1);
  });

  it("is kept where it has moved to while its sandbox was asked for the one before", async () => {
    const sandboxId = newId("sandbox");
    const then = Date.now();
    await report("a");
    await openPlacement(env).admit(request({ sandboxId }));
    await report("b", {}, {}, then + 61_000);
    const clock = vi.spyOn(Date, "now").mockReturnValue(then + 61_000);
    await Promise.all([
      openPlacement(env).report(reportOf("a"), { draining: false, keyVersion: 1 }),
      openPlacement(env).reserve(request({ sandboxId }), { excluded: [hostId("a")], waitMs: 0 }),
    ]);
    clock.mockRestore();
    await new Promise((wake) => setTimeout(wake, 200));
    expect([(await live("a")).sandboxes, (await live("b")).sandboxes]).toEqual([0, 1]);
    await openPlacement(env).release(sandboxId);
  });

  it("is not waited for by one who was given it as it asked", async () => {
    const placement = openPlacement(env);
    const [sandboxId, large] = [newId("sandbox"), newId("sandbox")];
    await report("a", { memory: 1024 });
    await placement.admit(request({ sandboxId }));
    await report("b", { memory: 512 });
    await placement.admit(request({ sandboxId: large, create: { memory: 1024 } }));
    const then = Date.now();
    const options = { excluded: [hostId("a")], waitMs: 5000 };
    expect(await placement.reserve(request({ sandboxId }), options)).toMatchObject({ place: { hostId: hostId("b") } });
    expect(Date.now() - then).toBeLessThan(2000);
    await Promise.all([sandboxId, large].map((id) => placement.release(id)));
  });

  it("is given back when the create is refused after all", async () => {
    await report("a");
    await createOne({ name: "taken", app_id: "x" });
    const response = await call("POST", "/v1/sandboxes", { json: { name: "taken", app_id: "x" } });
    expect(await problemOf(response)).toMatchObject({ status: 409, code: "name_taken" });
    expect((await live("a")).sandboxes).toBe(1);
  });

  it("of a host that was removed is nobody's", async () => {
    await report("a");
    const id = await createOne({});
    await expect.poll(() => started([id])).toHaveLength(1);
    expect((await call("DELETE", `/v1/hosts/${hostId("a")}`)).status).toBe(204);
    expect(await openPlacement(env).live([hostId("a")])).toEqual({});
    expect(await openPlacement(env).locate(hostId("a"))).toBeUndefined();
  });
});

describe("a host that is lost", () => {
  it("frees its devices, and is reconciled before it is given anything when it is back", async () => {
    const options = { gpus: ["H100", 1] as [string, number] };
    await report("g", options);
    const lost = await createOne({ gpu: "H100", timeout: 86_400 });
    await expect.poll(() => started([lost])).toHaveLength(1);
    const { gpus } = specOf(lost);
    fakeHost.isDown = true;
    const start = Date.now();
    const clock = vi.spyOn(Date, "now");
    try {
      for (const ms of [61_000, 370_000, 431_000]) {
        clock.mockReturnValue(start + ms);
        await runDurableObjectAlarm(objectOf(lost));
      }
    } finally {
      clock.mockRestore();
    }
    expect(await getSandbox(lost)).toMatchObject({ state: "terminated", finish_reason: "host_lost" });
    expect((await live("g")).gpus).toBe(0);
    fakeHost.isDown = false;
    // Its container still runs there, with the device.
    const container = { sandbox_id: lost, generation: 1, running: true, gpus: gpus! };
    await report("g", options, { containers: [container] });
    const next = await createOne({ gpu: "H100" });
    await new Promise((wake) => setTimeout(wake, 300));
    expect((await getSandbox(next)).state).toBe("created");
    await report("g", options);
    await expect.poll(() => started([next])).toHaveLength(1);
    expect(specOf(next).gpus).toEqual(gpus);
  });
});

it("room that nobody uses is given back also where its host reports no more", async () => {
  const then = Date.now();
  await report("a");
  await openPlacement(env).admit(request());
  await report("b", {}, {}, then + 61_000);
  await report("b", {}, {}, then + 130_000);
  await expect.poll(async () => (await live("a")).sandboxes).toBe(0);
});
