import { mkdtempSync, rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { HostPlacement } from "../../src/backends/backend.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { deriveHostKey, signRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { startDaemon, type Daemon } from "../../src/host/daemon.ts";
import { HostKeys } from "../../src/host/host-keys.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { KeyGiver, SECRET } from "./key-giver.ts";
import { HostCaller, listening, until } from "./signed-host.ts";

describe("a daemon", () => {
  let giver: KeyGiver;
  let controlPlaneUrl: string;
  let dataDir: string;
  let caller: HostCaller;
  let daemon: Daemon;
  const runtime = new ChildRuntime();

  beforeEach(async () => {
    vi.spyOn(console, "error").mockReturnValue();
    giver = new KeyGiver();
    controlPlaneUrl = `http://127.0.0.1:${await listening(giver.server)}`;
    dataDir = mkdtempSync("/tmp/sandbar-keys-");
    caller = await HostCaller.create();
    await start();
  });
  afterEach(async () => {
    await daemon.close({ stopContainers: true });
    giver.server.closeAllConnections();
    giver.server.close();
    vi.restoreAllMocks();
    rmSync(dataDir, { recursive: true, force: true });
  });

  const keyOf = (version: number) => deriveHostKey(SECRET, caller.hostId, version);

  async function start(keyVersion = 1): Promise<void> {
    const listen = { host: "127.0.0.1", port: 0 };
    const { hostId } = caller;
    const hostKey = await keyOf(keyVersion);
    const options = { runtime, hostId, hostKey, keyVersion, version: "0", dataDir, listen, controlPlaneUrl };
    daemon = await startDaemon(options);
    caller.port = daemon.port;
  }

  async function restart(keyVersion = 1): Promise<void> {
    await daemon.close({ stopContainers: false });
    await start(keyVersion);
  }

  /** Something that the host reports at once. */
  const nudge = async () => caller.call("DELETE", await caller.sandbox());
  /** Waits for a report that is signed so. */
  const reportedWith = (version: number) => until(() => giver.seen.at(-1) === version, 15_000);
  /** The status of a call that the control plane signs so. */
  async function statusFor(version: number): Promise<number> {
    const key = await keyOf(version);
    const signature = await signRequest(key, caller.hostId, "GET", "/v1/info", version);
    return (await caller.call("GET", "/v1/info", { signature })).status;
  }
  const statuses = async () => [await statusFor(1), await statusFor(2), await statusFor(3)];

  test("takes the key that it is handed, at once, and both sides' calls go on", async () => {
    await reportedWith(1);
    const box = await caller.sandbox();
    const running = caller.exec(box, ["sh", "-c", "sleep 1; echo done"]);
    giver.wanted = 2;
    await nudge();
    await reportedWith(2);
    expect(await statuses()).toEqual([200, 200, 401]);
    expect((await running).returncode).toBe(0);
    // Two in a row: the one before the last is no longer taken.
    giver.oldest = 2;
    giver.wanted = 3;
    await nudge();
    await reportedWith(3);
    expect(await statuses()).toEqual([401, 200, 200]);
    expect(giver.seen).not.toContain(0);
    await restart();
    await reportedWith(3);
    expect(await statuses()).toEqual([401, 200, 200]);
    expect(giver.seen).not.toContain(0);
  }, 20_000);

  test("that was killed between saving a key and using it uses it", async () => {
    await daemon.close({ stopContainers: false });
    const { hostId } = caller;
    const keys = new HostKeys(dataDir, { hostId, hostKey: await keyOf(1), keyVersion: 1 });
    keys.take({ version: 2, key: await keyOf(2) });
    giver.wanted = 2;
    giver.seen.length = 0;
    await start();
    await reportedWith(2);
    expect(giver.seen).not.toContain(1);
    expect(await statuses()).toEqual([200, 200, 401]);
  });

  test("whose new key was lost on the way is handed it again, and the newest where it changed", async () => {
    await reportedWith(1);
    Object.assign(giver, { wanted: 2, lost: 1 });
    await restart();
    await until(() => giver.lost <= 0, 15_000);
    giver.wanted = 3;
    await nudge();
    await reportedWith(3);
    expect(new Set(giver.seen)).toEqual(new Set([1, 3]));
  }, 20_000);

  test("whose key was revoked goes on for the control plane, and joins anew with another token", async () => {
    await reportedWith(1);
    Object.assign(giver, { wanted: 2, oldest: 2 });
    await restart();
    await reportedWith(0);
    expect(await statuses()).toEqual([200, 401, 401]);
    await restart(2);
    await reportedWith(2);
    expect(await statuses()).toEqual([401, 200, 401]);
  });

  test("marks its refusal, so that nobody takes it for an app's", async () => {
    const refused = await caller.call("GET", "/v1/info", { signature: null });
    expect([refused.status, refused.headers["x-sandbar-refused"]]).toEqual([401, "signature"]);
    const box = await caller.sandbox();
    const upgrade = { connection: "Upgrade", upgrade: "websocket" };
    const socket = await caller.call("GET", `${box}/ports/1/proxy`, { signature: null, headers: upgrade });
    expect([socket.status, socket.headers["x-sandbar-refused"]]).toEqual([401, "signature"]);
  });

  test("is asked with its newer key by a backend that knew the old one only", async () => {
    await reportedWith(1);
    await caller.sandbox();
    const { sandboxId } = runtime.started.at(-1)!;
    // Joined anew: nothing of the old key is taken.
    giver.wanted = giver.oldest = 3;
    runtime.left = [runtime.started.at(-1)!];
    await restart(3);
    runtime.left = [];
    const before: HostPlacement = { kind: "host", hostId: caller.hostId, url: daemon.url };
    const relocate = async () => ({ ...before, keyVersion: 3 });
    const spec = { process_id: newId("process"), command: ["echo", "hello"], env: {} };
    const stale = new DockerBackend(sandboxId, 1, before, SECRET);
    await expect(stale.exec(spec)).rejects.toMatchObject({ code: "backend_unavailable", retryAfter: 5 });
    const backend = new DockerBackend(sandboxId, 1, before, SECRET, relocate);
    expect((await backend.exec(spec, 5_000)).returncode).toBe(0);
    const body = () => new Response("x").body as ReadableStream<Uint8Array>;
    const other = new DockerBackend(sandboxId, 1, before, SECRET, relocate);
    await expect(other.writeFile("/tmp/x", body(), {})).rejects.toMatchObject({ code: "backend_unavailable" });
  });
});
