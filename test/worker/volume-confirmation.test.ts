import { env, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { VolumeRpc } from "../../src/volumes/rpc.ts";
import { openVolume } from "../../src/volumes/client.ts";
import { problemOf } from "./client.ts";
import { callPast, hasObject, newName, newVolume, removeVolume } from "./volume-calls.ts";

const HOUR_MS = 3_600_000;
const DAYS_MS = 3 * 24 * HOUR_MS;

/** The object wakes up, so much later. */
async function alarmAfter(volumeId: string, ms: number): Promise<void> {
  const clock = vi.spyOn(Date, "now").mockReturnValue(Date.now() + ms);
  await runDurableObjectAlarm(env.VOLUMES.get(env.VOLUMES.idFromName(volumeId)));
  clock.mockRestore();
}

/** Requests that are lost as they come to this call of the volume's object. */
const lostAt = (method: keyof VolumeRpc) => (called: keyof VolumeRpc) => {
  if (called === method) throw new Error("The object is away.");
};
const rowOf = (id: string) => env.DB.prepare("SELECT * FROM volumes WHERE volume_id = ?").bind(id).first();

afterEach(() => vi.restoreAllMocks());

describe("a volume whose object was not told that it is deleted", () => {
  it("is gone for everybody, and its object finds out", async () => {
    vi.spyOn(console, "error").mockReturnValue();
    const { volume_id: id } = await newVolume();
    const deleted = await callPast(lostAt("destroy"), "DELETE", `/v1/volumes/${id}`);
    expect([deleted.status, await rowOf(id), await hasObject(id)]).toEqual([204, null, true]);
    expect(await problemOf(await removeVolume(id))).toMatchObject({ code: "volume_not_found" });
    await alarmAfter(id, 0);
    expect(await hasObject(id)).toBe(true);
    await alarmAfter(id, HOUR_MS);
    expect(await hasObject(id)).toBe(false);
  });

  it("is not deleted before its object is ready to find out", async () => {
    const { volume_id: id } = await newVolume();
    const failed = await callPast(lostAt("confirmLater"), "DELETE", `/v1/volumes/${id}`);
    expect([failed.status, (await rowOf(id)) !== null, await hasObject(id)]).toEqual([500, true, true]);
    expect((await removeVolume(id)).status).toBe(204);
  });
});

describe("a volume that nobody has finished making", () => {
  it("goes, once nobody can come to finish it", async () => {
    const made: string[] = [];
    await env.DB.exec("ALTER TABLE volumes RENAME TO volumes_away");
    const response = await callPast((_, id) => void made.push(id), "POST", "/v1/volumes", { name: newName() });
    await env.DB.exec("ALTER TABLE volumes_away RENAME TO volumes");
    expect([response.status, await hasObject(made[0]!)]).toEqual([503, true]);
    await alarmAfter(made[0]!, 24 * HOUR_MS);
    expect(await hasObject(made[0]!)).toBe(true);
    await alarmAfter(made[0]!, DAYS_MS);
    expect(await hasObject(made[0]!)).toBe(false);
  });
});

describe("a volume that is in the catalog", () => {
  it("stays, whatever was expected", async () => {
    const { volume_id: id } = await newVolume();
    await openVolume(env, id).confirmLater({ environment: "main" }, 1000);
    for (const ms of [0, HOUR_MS, DAYS_MS]) await alarmAfter(id, ms);
    expect(await hasObject(id)).toBe(true);
  });

  it("stays while the catalog does not say", async () => {
    vi.spyOn(console, "error").mockReturnValue();
    const { volume_id: id } = await newVolume();
    await openVolume(env, id).confirmLater({ environment: "main" }, 1000);
    await env.DB.exec("ALTER TABLE volumes RENAME TO volumes_away");
    await alarmAfter(id, HOUR_MS);
    await env.DB.exec("ALTER TABLE volumes_away RENAME TO volumes");
    expect(await hasObject(id)).toBe(true);
    await alarmAfter(id, 2 * HOUR_MS);
    expect(await hasObject(id)).toBe(true);
  });

  it("is nothing that another environment can have looked up", async () => {
    const id = newId("volume");
    await openVolume(env, id).create("main", id);
    await openVolume(env, id).confirmLater({ environment: "stranger" }, 0);
    await alarmAfter(id, HOUR_MS);
    expect(await hasObject(id)).toBe(true);
  });
});

describe("a volume that is to be looked up in days", () => {
  it("is swept before", async () => {
    const { volume_id: id } = await newVolume();
    const object = env.VOLUMES.get(env.VOLUMES.idFromName(id));
    const alarm = () => runInDurableObject(object, (_, { storage }) => storage.getAlarm());
    expect(await alarm()).toBeGreaterThan(Date.now() + 24 * HOUR_MS);
    await openVolume(env, id).admit({ environment: "main" }, "write");
    expect(await alarm()).toBeLessThanOrEqual(Date.now() + HOUR_MS);
  });
});
