import { env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { deriveHostKey, parseJoinToken } from "../../src/contract/host-token.ts";
import { call, HOST_ID, problemOf } from "./client.ts";
import { OTHER_HOST_ID, PATH, getHost, setNow, report, ordersOf, rotate, withOneHost } from "./host-calls.ts";

withOneHost();

describe("a host's key", () => {
  it("of the first version is what it has always been", async () => {
    const { signature } = await sign("sandbar-host:ho-x");
    expect(await deriveHostKey(env.SIGNING_SECRET, "ho-x")).toBe(signature);
    expect(await deriveHostKey(env.SIGNING_SECRET, "ho-x", 1)).toBe(signature);
    const later = await Promise.all([2, 3].map((version) => deriveHostKey(env.SIGNING_SECRET, "ho-x", version)));
    expect(new Set([...later, signature]).size).toBe(3);
  });

  it("is handed over, until the host reports with it", async () => {
    expect(await ordersOf(1)).not.toHaveProperty("key");
    expect(await rotate()).toEqual({ host_id: HOST_ID, next_key_version: 2 });
    expect(await getHost()).toMatchObject({ key_version: 1, next_key_version: 2 });
    const key = { version: 2, key: await deriveHostKey(env.SIGNING_SECRET, HOST_ID, 2) };
    // Again, since the host may not have got the first answer.
    for (const _ of [1, 2]) expect((await ordersOf(1)).key).toEqual(key);
    expect(await ordersOf(2)).not.toHaveProperty("key");
    const host = await getHost();
    expect(host).toMatchObject({ key_version: 2, state: "alive" });
    expect(host).not.toHaveProperty("next_key_version");
  });

  it("takes over while what the old one signed is still good, and then alone", async () => {
    const now = Date.now();
    setNow(now);
    await rotate({});
    await ordersOf(1);
    await ordersOf(2);
    expect((await report(1)).status).toBe(200);
    setNow(now + 89_000);
    await ordersOf(2);
    expect((await report(1)).status).toBe(200);
    setNow(now + 90_000);
    // Only a report under the new one retires the old.
    expect((await report(1)).status).toBe(200);
    await ordersOf(2);
    expect(await problemOf(await report(1))).toMatchObject({ status: 401, code: "unauthenticated" });
    expect(await ordersOf(2)).not.toHaveProperty("key");
  });

  it("is never one that was not given out", async () => {
    expect(await problemOf(await report(2))).toMatchObject({ status: 401 });
    await rotate();
    await ordersOf(2);
    expect(await problemOf(await report(3))).toMatchObject({ status: 401 });
    expect(await problemOf(await report(2, OTHER_HOST_ID))).toMatchObject({ status: 401 });
    expect((await report(1, OTHER_HOST_ID)).status).toBe(200);
  });

  it("rotated again before it was handed over is the newest", async () => {
    await rotate();
    expect(await rotate()).toMatchObject({ next_key_version: 3 });
    expect((await ordersOf(1)).key).toMatchObject({ version: 3 });
    await ordersOf(3);
    expect(await getHost()).toMatchObject({ key_version: 3 });
  });

  it("that is rotated while it is handed over is handed over twice", async () => {
    await rotate();
    expect((await ordersOf(1)).key).toMatchObject({ version: 2 });
    await rotate();
    expect((await ordersOf(2)).key).toMatchObject({ version: 3 });
    expect(await getHost()).toMatchObject({ key_version: 2, next_key_version: 3 });
  });

  it("that is revoked is refused at once, and the host is joined anew", async () => {
    await rotate();
    await ordersOf(2);
    const { token, next_key_version } = await rotate({ revoke: true });
    expect(next_key_version).toBe(3);
    for (const version of [1, 2]) {
      const refused = await problemOf(await report(version));
      expect(refused).toMatchObject({ status: 401, code: "unauthenticated" });
    }
    expect(await getHost()).toMatchObject({ key_version: 2, next_key_version: 3 });
    const hostKey = await deriveHostKey(env.SIGNING_SECRET, HOST_ID, 3);
    expect(parseJoinToken(token!)).toEqual({ hostId: HOST_ID, keyVersion: 3, hostKey });
    await ordersOf(3);
    expect(await getHost()).toMatchObject({ key_version: 3 });
  });

  it("is rotated once per Idempotency-Key, and the token kept unreadable", async () => {
    const headers = { "idempotency-key": "revoke-it" };
    const first = await rotate({ revoke: true }, headers);
    expect(await rotate({ revoke: true }, headers)).toEqual(first);
    expect(await getHost()).toMatchObject({ next_key_version: 2 });
    const { results } = await env.DB.prepare("SELECT * FROM idempotency_keys").all();
    expect(JSON.stringify(results)).not.toContain(parseJoinToken(first.token!)!.hostKey);
    const other = await call("POST", `${PATH}/rotate-key`, { json: { revoke: false }, headers });
    expect(await problemOf(other)).toMatchObject({ status: 409, code: "idempotency_conflict" });
  });

  it("takes nothing but `revoke`", async () => {
    for (const json of [{ revoke: 1 }, { version: 7 }, []])
      expect((await call("POST", `${PATH}/rotate-key`, { json })).status).toBe(400);
    expect((await getHost()).next_key_version).toBeUndefined();
  });

  it("of a host that was removed is refused, however new", async () => {
    await rotate();
    await call("DELETE", PATH);
    for (const version of [1, 2])
      expect(await problemOf(await report(version))).toMatchObject({ status: 403, code: "forbidden" });
  });

  it("cannot be judged while the catalog is away", async () => {
    await env.DB.exec("ALTER TABLE hosts RENAME TO hosts_away");
    try {
      const response = await report(1);
      expect(response.headers.get("retry-after")).toBeTruthy();
      expect(await problemOf(response)).toMatchObject({ status: 503, code: "catalog_unavailable" });
      const unsigned = await call("POST", `${PATH}/report`, { key: null, json: {} });
      expect(unsigned.status).toBe(401);
    } finally {
      await env.DB.exec("ALTER TABLE hosts_away RENAME TO hosts");
    }
  });
});

/** HMAC-SHA-256 under the signing secret, base64url. */
async function sign(text: string): Promise<{ signature: string }> {
  const encoder = new TextEncoder();
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(env.SIGNING_SECRET), algorithm, false, ["sign"]);
  const bytes = new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(text)));
  const signature = btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
  return { signature };
}
