import { existsSync, readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../../src/contract/ids.ts";
import type { StartSpec } from "../../../src/contract/host-protocol.ts";
import { DaemonProcess } from "../daemon-process.ts";
import { IMAGE, noEngine } from "../docker-host.ts";
import { text, until, type HostCaller } from "../signed-host.ts";
import { VolumeServer } from "../volume-server.ts";

const RUNTIMES = [
  { runtime: "embedded" as const, image: "host", skip: false },
  { runtime: "docker" as const, image: IMAGE, skip: noEngine !== undefined },
];

describe.each(RUNTIMES)("volumes in $runtime containers", ({ runtime, image, skip }) => {
  if (skip) return test.skip(`no ${runtime}`);
  let daemon: DaemonProcess;
  let host: HostCaller;
  let server: VolumeServer;

  beforeAll(async () => {
    server = await VolumeServer.start();
    daemon = await DaemonProcess.start(runtime, { controlPlaneUrl: server.url });
    host = daemon.host;
  }, 60_000);
  afterAll(async () => {
    await daemon.remove();
    server.close();
  });

  const start = (volumes: StartSpec["volumes"], more: Partial<StartSpec> = {}) =>
    host.sandbox({ image, volumes, ...more });
  const sh = async (box: string, script: string) => {
    const { returncode, output } = await host.exec(box, ["sh", "-c", script], {}, 30_000);
    return { returncode, out: text(output?.stdout) + text(output?.stderr) };
  };
  const order = (box: string, what: "commit" | "reload", body: object = {}) =>
    host.send("POST", `${box}/volumes/${what}`, body);
  const mountsLeft = () => readdirSync(`${daemon.dataDir}/volumes/mounts`).length;

  test("is something that this host can do", async () => {
    const info = (await host.call("GET", "/v1/info")).json;
    expect(info["capabilities"]).toMatchObject({ volumes: true });
  });

  test("are written by one, and seen by another after its reload", { timeout: 60_000 }, async () => {
    const id = server.create();
    const odd = "/srv/odd name";
    const a = await start([server.mount(id), server.mount(id, { path: odd, read_only: true, sub_path: "sub" })]);
    const b = await start([server.mount(id)]);
    expect(await sh(a, "mkdir /data/sub && echo hello >/data/sub/x && chmod 600 /data/sub/x")).toMatchObject({
      returncode: 0,
    });
    const [commit] = (await order(a, "commit")).json as unknown as object[];
    // It may have been committed meanwhile.
    expect(commit).toMatchObject({ path: "/data", volume_id: id });
    expect(server.tree(id)).toEqual({ sub: "directory/", "sub/x": "hello\n" });
    expect((await sh(b, "cat /data/sub/x")).returncode).not.toBe(0);
    expect((await order(b, "reload", { paths: ["/data"] })).json).toMatchObject([{ changed_files: 2 }]);
    expect((await sh(b, "cat /data/sub/x; stat -c '%a %U' /data/sub/x")).out).toBe("hello\n600 root\n");
    expect((await order(a, "reload")).status).toBe(200);
    expect((await sh(a, `cat '${odd}/x'`)).out).toBe("hello\n");
    const refused = await sh(a, `echo y >'${odd}/y'`);
    expect(refused.returncode).not.toBe(0);
    expect(refused.out).toContain("Read-only file system");
    const unknown = await order(a, "commit", { paths: ["/elsewhere"] });
    expect([unknown.status, unknown.json["code"]]).toEqual([400, "invalid_request"]);
    expect(JSON.stringify(unknown.json["errors"])).toContain("/elsewhere");
    for (const box of [a, b]) await host.call("DELETE", box);
    await until(() => mountsLeft() === 0);
  });

  test(
    "are committed meanwhile, and at the end of a sandbox before it is told to have ended",
    { timeout: 60_000 },
    async () => {
      const id = server.create();
      const box = await start([server.mount(id)]);
      expect((await sh(box, "mkfifo /data/fifo; echo early >/data/early")).returncode).toBe(0);
      await until(() => server.tree(id)["early"] === "early\n", 20_000);
      await host.call("DELETE", box);
      const other = await start([server.mount(id)], { entrypoint: ["sh", "-c", "sleep 0.5; echo last >/data/last"] });
      await until(async () => (await host.call("GET", other)).json["kind"] === "exited", 20_000);
      expect(server.tree(id)["last"]).toBe("last\n");
      expect(Object.keys(server.tree(id))).not.toContain("fifo");
      await until(() => mountsLeft() === 0);
    },
  );

  test("go on with the next daemon, that finishes what a killed one has begun", { timeout: 90_000 }, async () => {
    const id = server.create();
    const box = await start([server.mount(id)]);
    await sh(box, "echo before >/data/x");
    server.fate = (name) => (name === "POST commit" ? 503 : undefined);
    const failed = await order(box, "commit");
    expect([failed.status, failed.json["code"]]).toEqual([502, "volume_not_stored"]);
    expect(failed.json["detail"]).toContain("/data");
    expect(failed.json["detail"]).toContain("1 file ");
    await sh(box, "echo more >/data/y");
    await daemon.kill();
    server.fate = () => undefined;
    await daemon.start();
    expect((await order(box, "commit")).json).toMatchObject([{ path: "/data" }]);
    expect(server.tree(id)).toEqual({ x: "before\n", y: "more\n" });
    await sh(box, "echo at the end >/data/z");
    await daemon.kill();
    await daemon.start();
    await host.call("DELETE", box);
    expect(server.tree(id)["z"]).toBe("at the end\n");
  });

  test.each(["POST missing", "PUT packs", "POST parts", "POST commit"])(
    "are stored by the next daemon where one is killed at %s",
    { timeout: 60_000 },
    async (stage) => {
      const id = server.create();
      const box = await start([server.mount(id)]);
      await sh(box, "echo text >/data/x; mkdir /data/d");
      let killed: Promise<void> | undefined;
      server.fate = (name) => {
        if (name !== stage || killed) return undefined;
        killed = daemon.kill();
        return "lost";
      };
      await order(box, "commit").catch(() => undefined);
      await killed;
      expect([0, 1]).toContain(server.version(id));
      await daemon.start();
      await order(box, "commit");
      expect(server.tree(id)).toEqual({ d: "directory/", x: "text\n" });
      expect(server.version(id)).toBe(1);
      await host.call("DELETE", box);
    },
  );

  test("keep what cannot be stored until it can", { timeout: 60_000 }, async () => {
    const id = server.create();
    const box = await start([server.mount(id)]);
    await sh(box, "echo kept >/data/x");
    server.fate = (name) => (name === "PUT packs" ? 500 : undefined);
    const begin = Date.now();
    expect((await host.call("DELETE", box)).status).toBe(204);
    expect(Date.now() - begin).toBeLessThan(20_000);
    expect(mountsLeft()).toBe(1);
    await daemon.kill();
    server.fate = () => undefined;
    await daemon.start();
    await until(() => mountsLeft() === 0, 20_000);
    expect(server.tree(id)).toEqual({ x: "kept\n" });
  });

  test("that are no more, or whose control plane is away, stop a start", async () => {
    const spec = (volumes: StartSpec["volumes"]) => host.put(host.spec({ image, volumes: volumes! }));
    const gone = await spec([server.mount(newId("volume"))]);
    expect(gone.json).toMatchObject({ kind: "failed", error: expect.stringContaining("There is no volume") });
    server.fate = () => 503;
    const away = await spec([server.mount(server.create())]);
    server.fate = () => undefined;
    expect([away.status, away.json["code"]]).toEqual([503, "backend_unavailable"]);
    expect(existsSync(`${daemon.dataDir}/volumes/mounts`) && mountsLeft()).toBe(0);
  });

  test("never lead out of a container by a link of its image", async () => {
    const id = server.create();
    const put = (path: string) => host.put(host.spec({ image, volumes: [server.mount(id, { path })] }));
    expect((await put("/var/../../sandbar-out")).json["code"]).toBe("invalid_request");
    // In both images /var/run is a link.
    const linked = (await put("/var/run/sandbar-out")).json;
    if (runtime === "docker") expect(linked["kind"]).toBe("launched");
    else expect(linked).toMatchObject({ kind: "failed", error: expect.stringContaining("/var/run of the image") });
    for (const path of ["/sandbar-out", "/run/sandbar-out"]) expect(existsSync(path)).toBe(false);
  });
});
