import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { HostPlacement } from "../../src/backends/backend.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { HostReportSchema } from "../../src/contract/host-protocol.ts";
import {
  CONTROL_PLANE_AUDIENCE,
  deriveHostKey,
  formatJoinToken,
  parseJoinToken,
  signRequest,
  verifyRequest,
} from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { startDaemon, type Daemon } from "../../src/host/daemon.ts";
import { HostKeys } from "../../src/host/host-keys.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { HostCaller, listening, until } from "./signed-host.ts";

const HOUR_MS = 3_600_000;
const SECRET = "a-signing-secret-of-tests-0123456789";
const dirs: string[] = [];

function newDir(): string {
  const dir = mkdtempSync("/tmp/sandbar-keys-");
  dirs.push(dir);
  return dir;
}

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  for (const dir of dirs.splice(0)) rmSync(dir, { recursive: true, force: true });
});

describe("a join token", () => {
  test("names the version of its key where that is not the first", async () => {
    const hostId = newId("host");
    const hostKey = await deriveHostKey(SECRET, hostId);
    expect(formatJoinToken(hostId, hostKey)).toBe(`${hostId}.${hostKey}`);
    expect(parseJoinToken(`${hostId}.${hostKey}\n`)).toEqual({ hostId, hostKey, keyVersion: 1 });
    const later = formatJoinToken(hostId, hostKey, 12);
    expect(later).toBe(`${hostId}.12.${hostKey}`);
    expect(parseJoinToken(later)).toEqual({ hostId, hostKey, keyVersion: 12 });
    for (const bad of [`${hostId}.0.${hostKey}`, `${hostId}.x.${hostKey}`, `${hostId}..${hostKey}`, `${hostId}.2.`])
      expect(parseJoinToken(bad), bad).toBeUndefined();
  });
});

describe("the keys of a host", () => {
  const hostId = newId("host");
  const key = (version: number) => deriveHostKey(SECRET, hostId, version);
  const token = async (version: number) => ({ hostId, hostKey: await key(version), keyVersion: version });
  /** The versions among the first five whose signature these keys take. */
  const taken = (keys: HostKeys) => [1, 2, 3, 4, 5].filter((version) => keys.find(version) !== undefined);

  /** What the keys sign with. */
  async function signedWith(keys: HostKeys): Promise<number> {
    const authorization = await keys.sign(CONTROL_PLANE_AUDIENCE, "GET", "/x");
    return verifyRequest(key, CONTROL_PLANE_AUDIENCE, { authorization, method: "GET", target: "/x" });
  }

  test("are the token's at first, and nothing is written", async () => {
    const dir = newDir();
    const keys = new HostKeys(dir, await token(1));
    expect([taken(keys), await signedWith(keys), readdirSync(dir)]).toEqual([[1], 1, []]);
  });

  test("sign with the newest and take the one before it, for 25 hours, also in the next daemon", async () => {
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() });
    const dir = newDir();
    const keys = new HostKeys(dir, await token(1));
    expect(keys.take({ version: 2, key: await key(2) })).toBe(true);
    expect([taken(keys), await signedWith(keys)]).toEqual([[1, 2], 2]);
    const next = new HostKeys(dir, await token(1));
    expect([taken(next), await signedWith(next)]).toEqual([[1, 2], 2]);
    vi.setSystemTime(Date.now() + 25 * HOUR_MS - 1000);
    expect(taken(next)).toEqual([1, 2]);
    vi.setSystemTime(Date.now() + 1000);
    for (const one of [keys, next, new HostKeys(dir, await token(1))]) expect(taken(one)).toEqual([2]);
  });

  test("are saved for their owner alone, whole", async () => {
    const dir = newDir();
    writeFileSync(`${dir}/key.json.new`, "{torn");
    const keys = new HostKeys(dir, await token(1));
    keys.take({ version: 2, key: await key(2) });
    expect(readdirSync(dir)).toEqual(["key.json"]);
    expect(statSync(`${dir}/key.json`).mode & 0o777).toBe(0o600);
    expect(JSON.parse(readFileSync(`${dir}/key.json`, "utf8"))).toMatchObject({ host_id: hostId });
  });

  test("go on as they are when the new one cannot be saved", async () => {
    const dir = newDir();
    const keys = new HostKeys(dir, await token(1));
    mkdirSync(`${dir}/key.json.new`);
    const two = { version: 2, key: await key(2) };
    expect(() => keys.take(two)).toThrow("EISDIR");
    expect([taken(keys), await signedWith(keys)]).toEqual([[1], 1]);
    rmSync(`${dir}/key.json.new`, { recursive: true });
    expect(keys.take(two)).toBe(true);
  });

  test("never become older", async () => {
    const keys = new HostKeys(newDir(), await token(1));
    keys.take({ version: 3, key: await key(3) });
    for (const version of [1, 2, 3]) expect(keys.take({ version, key: "x".repeat(43) })).toBe(false);
    expect([taken(keys), await signedWith(keys)]).toEqual([[1, 3], 3]);
    keys.take({ version: 5, key: await key(5) });
    expect(taken(keys)).toEqual([3, 5]);
  });

  test("are those of a newer token alone: what was saved may have leaked", async () => {
    const dir = newDir();
    new HostKeys(dir, await token(1)).take({ version: 2, key: await key(2) });
    const anew = new HostKeys(dir, await token(3));
    expect([taken(anew), await signedWith(anew)]).toEqual([[3], 3]);
    anew.take({ version: 4, key: await key(4) });
    expect(taken(new HostKeys(dir, await token(3)))).toEqual([3, 4]);
  });

  test("are the saved ones for the token of the same key, and the token's for another host or deployment", async () => {
    const dir = newDir();
    new HostKeys(dir, await token(1)).take({ version: 2, key: await key(2) });
    expect(taken(new HostKeys(dir, await token(2)))).toEqual([1, 2]);
    const other = { hostId: newId("host"), hostKey: "y".repeat(43), keyVersion: 1 };
    expect(taken(new HostKeys(dir, other))).toEqual([1]);
    const deployment = { hostId, hostKey: "z".repeat(43), keyVersion: 2 };
    expect(taken(new HostKeys(dir, deployment))).toEqual([2]);
  });

  test("are the token's where the file makes no sense", async () => {
    vi.spyOn(console, "error").mockReturnValue();
    const dir = newDir();
    for (const text of ["", "{", "{}", `{"host_id":"${hostId}","current":{"version":"2","key":"x"}}`]) {
      writeFileSync(`${dir}/key.json`, text);
      expect(taken(new HostKeys(dir, await token(1)))).toEqual([1]);
    }
    expect(console.error).toHaveBeenCalledTimes(4);
  });
});

/** The control plane's end of reports, as far as keys go. */
class KeyGiver {
  wanted = 1;
  oldest = 1;
  /** Answers that are lost on their way. */
  lost = 0;
  /** The versions that reports were signed with; 0 for what was refused. */
  readonly seen: number[] = [];
  readonly server = createServer(async (request, response) => {
    const { info } = HostReportSchema.parse(await json(request));
    const key = async (version: number) =>
      version < this.oldest || version > this.wanted ? undefined : deriveHostKey(SECRET, info.host_id, version);
    const { authorization } = request.headers;
    const signed = { authorization, method: "POST", target: `/v1/hosts/${info.host_id}/report` };
    const version = await verifyRequest(key, CONTROL_PLANE_AUDIENCE, signed).catch(() => 0);
    this.seen.push(version);
    if (version === 0) return response.writeHead(401).end();
    if (this.lost-- > 0) return request.socket.destroy();
    const next = version < this.wanted && { version: this.wanted, key: await key(this.wanted) };
    return response.end(JSON.stringify({ reap: [], ...(next && { key: next }) }));
  });
}

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
    dataDir = newDir();
    caller = await HostCaller.create();
    await start();
  });
  afterEach(async () => {
    await daemon.close({ stopContainers: true });
    giver.server.closeAllConnections();
    giver.server.close();
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

test("a token that was given once is kept when the control plane takes its key, and not before", async () => {
  const dataDir = mkdtempSync("/tmp/sandbar-keys-");
  const hostId = "ho-aaaaaaaaaaaaaaaaaaaaaa";
  const first = { hostId, hostKey: await deriveHostKey("secret", hostId), keyVersion: 1 };
  const third = { hostId, hostKey: await deriveHostKey("secret", hostId, 3), keyVersion: 3 };
  const given = new HostKeys(dataDir, third);
  expect(new HostKeys(dataDir, first).version).toBe(1);
  given.accepted();
  expect(new HostKeys(dataDir, first).version).toBe(3);
  rmSync(dataDir, { recursive: true });
});
