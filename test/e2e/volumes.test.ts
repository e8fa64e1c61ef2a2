import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { FileInfo } from "../../src/contract/file.ts";
import type { Volume, VolumeDetail } from "../../src/contract/volume.ts";
import type { VolumeCommit, VolumeReload } from "../../src/contract/volume-mount.ts";
import { Instance } from "./instance.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";

const MIB = 1_048_576;

describe.each(HOST_RUNTIMES)("volumes on the %s runtime", { timeout: 180_000 }, (runtime) => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
  }, 240_000);
  afterAll(() => instance?.remove());

  const volume = async (name: string) => (await instance.call<Volume>("POST", "/volumes", { name })).volume_id;
  const create = async (volumes: object, more: object = {}) => {
    const id = await instance.create({ timeout: 600, volumes, ...more });
    expect(await instance.until(id, ["ready", "finished", "terminated"], 60_000)).toMatchObject({ state: "ready" });
    return id;
  };
  const sh = async (id: string, script: string) => {
    const { returncode, stdout, stderr } = await instance.exec(id, ["sh", "-c", script], {}, 60);
    return returncode === 0 ? stdout.trim() : `${returncode}: ${stdout}${stderr}`;
  };
  const commit = async (id: string) =>
    (await instance.call<{ data: VolumeCommit[] }>("POST", `/sandboxes/${id}/volumes/commit`)).data;
  const reload = async (id: string) =>
    (await instance.call<{ data: VolumeReload[] }>("POST", `/sandboxes/${id}/volumes/reload`)).data;
  const end = async (...ids: string[]) => {
    for (const id of ids) await instance.call("DELETE", `/sandboxes/${id}`);
  };

  it("show what was committed, to others once they reload, and to those that come later", async () => {
    const volumeId = await volume("shared");
    const writer = await create({ "/data": { volume_id: "shared" } });
    const reader = await create({ "/mnt/in": { volume_id: volumeId, read_only: true } });
    await sh(writer, "mkdir /data/d && echo one > /data/d/file && chmod 600 /data/d/file && ln -s d/file /data/link");
    expect(await commit(writer)).toEqual([
      expect.objectContaining({ path: "/data", volume_id: volumeId, changed_files: 3 }),
    ]);
    expect(await sh(reader, "ls /mnt/in")).toBe("");
    expect(await reload(reader)).toEqual([expect.objectContaining({ path: "/mnt/in", changed_files: 3 })]);
    expect(await sh(reader, "cat /mnt/in/link && stat -c %a /mnt/in/d/file")).toBe("one\n600");
    expect(await sh(reader, "echo no > /mnt/in/new")).toContain("Read-only");
    const later = await create({ "/data": { volume_id: "shared", sub_path: "d" } });
    expect(await sh(later, "ls /data && cat /data/file")).toBe("file\none");
    await sh(writer, "rm /data/link && mv /data/d/file /data/d/renamed");
    await commit(writer);
    await reload(later);
    expect(await sh(later, "ls /data")).toBe("renamed");
    await end(writer, reader, later);
  });

  it("lose nothing to concurrent commits, and the last one wins for each file", async () => {
    await volume("raced");
    const [a, b] = [await create({ "/v": { volume_id: "raced" } }), await create({ "/v": { volume_id: "raced" } })];
    await sh(a, "echo a > /v/both && echo a > /v/only-a");
    await sh(b, "echo b > /v/both && echo b > /v/only-b");
    await commit(a);
    await commit(b);
    await reload(a);
    await reload(b);
    for (const id of [a, b]) expect(await sh(id, "cd /v && cat both only-a only-b")).toBe("b\na\nb");
    await end(a, b);
  });

  it("keep what was written last when the sandbox ends, however it ends", async () => {
    await volume("ends");
    const deleted = await create({ "/v": { volume_id: "ends" } });
    await sh(deleted, "echo 1 > /v/deleted");
    await end(deleted);
    const exited = await instance.create({
      volumes: { "/v": { volume_id: "ends" } },
      entrypoint: ["sh", "-c", "echo 2 > /v/exited; sleep 1"],
    });
    await instance.until(exited, ["finished"], 60_000);
    const timedOut = await instance.create({
      timeout: 3,
      volumes: { "/v": { volume_id: "ends" } },
      entrypoint: ["sh", "-c", "echo 3 > /v/timed-out; sleep 100"],
    });
    await instance.until(timedOut, ["terminated"], 60_000);
    const idle = await create({ "/v": { volume_id: "ends" } }, { idle_timeout: 2 });
    await sh(idle, "echo 4 > /v/idled");
    expect(await instance.until(idle, ["terminated"], 60_000)).toMatchObject({ finish_reason: "idle_timeout" });
    const after = await create({ "/v": { volume_id: "ends" } });
    expect(await sh(after, "cd /v && cat deleted exited timed-out idled")).toBe("1\n2\n3\n4");
    await end(after);
  });

  it("are committed in the background", async () => {
    const volumeId = await volume("background");
    const id = await create({ "/v": { volume_id: "background" } });
    await sh(id, "echo soon > /v/file");
    const read = async () => (await instance.fetch(`/volumes/${volumeId}/files?path=/file`)).text();
    await expect.poll(read, { timeout: 40_000, interval: 500 }).toBe("soon\n");
    await end(id);
  });

  it("move only what has changed, and are read without a sandbox", async () => {
    const volumeId = await volume("large");
    const id = await create({ "/v": { volume_id: "large" } });
    await sh(id, `head -c ${24 * MIB} /dev/urandom > /v/big && head -c 300000 /dev/urandom > /v/part`);
    const [first] = await commit(id);
    expect(first!.uploaded_bytes).toBeGreaterThan(24 * MIB);
    await sh(id, `head -c 65536 /dev/urandom | dd of=/v/big bs=65536 seek=100 conv=notrunc 2>/dev/null`);
    const [second] = await commit(id);
    expect(second!.uploaded_bytes).toBeLessThan(1.2 * MIB);
    expect((await commit(id))[0]).toMatchObject({ changed_files: 0, version: second!.version });
    const sum = (await sh(id, "md5sum < /v/big")).split(" ")[0];
    const whole = await instance.fetch(`/volumes/${volumeId}/files?path=/big`);
    const bytes = Buffer.from(await whole.arrayBuffer());
    expect((await import("node:crypto")).createHash("md5").update(bytes).digest("hex")).toBe(sum);
    const range = { headers: { range: `bytes=${MIB - 5}-${2 * MIB + 4}` } };
    const part = await instance.fetch(`/volumes/${volumeId}/files?path=/big`, range);
    expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, bytes.subarray(MIB - 5, 2 * MIB + 5)]);
    const { data } = await instance.call<{ data: FileInfo[] }>("GET", `/volumes/${volumeId}/files/list?path=/`);
    expect(data.map(({ path, size }) => [path, size])).toEqual([
      ["/big", 24 * MIB],
      ["/part", 300_000],
    ]);
    expect(await instance.call<VolumeDetail>("GET", `/volumes/${volumeId}`)).toMatchObject({ name: "large", files: 2 });
    await end(id);
  });

  it("are not deleted under a sandbox, and are gone once they are", async () => {
    const volumeId = await volume("used");
    const id = await create({ "/v": { volume_id: "used" } });
    const refused = await instance.fetch(`/volumes/${volumeId}`, { method: "DELETE" });
    expect([refused.status, await refused.json()]).toEqual([409, expect.objectContaining({ sandboxes: [id] })]);
    await end(id);
    await expect
      .poll(async () => (await instance.fetch(`/volumes/${volumeId}`, { method: "DELETE" })).status)
      .toBe(204);
    expect((await instance.fetch(`/volumes/${volumeId}/files?path=/x`)).status).toBe(404);
    const missing = await instance.fetch("/sandboxes", {
      method: "POST",
      body: JSON.stringify({ volumes: { "/v": { volume_id: volumeId } } }),
    });
    expect([missing.status, await missing.json()]).toEqual([
      404,
      expect.objectContaining({ code: "volume_not_found" }),
    ]);
  });
});
