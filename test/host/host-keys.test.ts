import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { afterEach, describe, expect, test, vi } from "vitest";
import {
  CONTROL_PLANE_AUDIENCE,
  deriveHostKey,
  formatJoinToken,
  parseJoinToken,
  verifyRequest,
} from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { HostKeys } from "../../src/host/host-keys.ts";
import { SECRET } from "./key-giver.ts";

const HOUR_MS = 3_600_000;
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
