import { env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { call, newKey, problemOf } from "./client.ts";

describe("keys", () => {
  it("shows a key once and keeps only its hash", async () => {
    const response = await call("POST", "/v1/keys", { json: { name: "ci", scopes: ["write", "write"] } });
    expect(response.status).toBe(201);
    const { key, ...rest } = (await response.json()) as { key: string; key_id: string };
    expect(key).toMatch(/^sk-[A-Za-z0-9]{43}$/);
    expect(rest).toMatchObject({ name: "ci", environment: "main", scopes: ["write"] });
    expect(rest.key_id).toMatch(/^ak-[a-z0-9]{22}$/);
    const { results } = await env.DB.prepare("SELECT * FROM api_keys").all();
    expect(JSON.stringify(results)).not.toContain(key);
    const listed = await (await call("GET", "/v1/keys")).json();
    expect(JSON.stringify(listed)).not.toContain(key);
    expect(listed).toMatchObject({ data: expect.arrayContaining([rest]) });
  });

  it("revokes a key at once, and again", async () => {
    const { key, key_id } = await newKey(["read"]);
    expect((await call("GET", "/v1/sandboxes", { key })).status).toBe(200);
    expect((await call("DELETE", `/v1/keys/${key_id}`)).status).toBe(204);
    expect((await call("GET", "/v1/sandboxes", { key })).status).toBe(401);
    expect((await call("DELETE", `/v1/keys/${key_id}`)).status).toBe(204);
    const listed = (await (await call("GET", "/v1/keys")).json()) as { data: { key_id: string }[] };
    expect(listed.data.map((row) => row.key_id)).not.toContain(key_id);
  });

  it("keeps the admin of an environment inside of it", async () => {
    const admin = await newKey(["admin"], "team-a");
    const theirs = await newKey(["read"], "team-b");
    const elsewhere = await call("POST", "/v1/keys", {
      key: admin.key,
      json: { name: "x", environment: "team-b", scopes: ["read"] },
    });
    expect(await problemOf(elsewhere)).toMatchObject({ status: 403 });
    const own = await call("POST", "/v1/keys", { key: admin.key, json: { name: "x", scopes: ["read"] } });
    expect(await own.json()).toMatchObject({ environment: "team-a" });
    expect((await call("DELETE", `/v1/keys/${theirs.key_id}`, { key: admin.key })).status).toBe(404);
    expect((await call("GET", "/v1/sandboxes", { key: theirs.key })).status).toBe(200);
    const listed = (await (await call("GET", "/v1/keys", { key: admin.key })).json()) as {
      data: { environment: string }[];
    };
    expect(new Set(listed.data.map((row) => row.environment))).toEqual(new Set(["team-a"]));
  });

  it("does not know what was never there", async () => {
    expect((await call("DELETE", "/v1/keys/ak-zzzzzzzzzzzzzzzzzzzzzz")).status).toBe(404);
    expect((await call("DELETE", "/v1/keys/nonsense")).status).toBe(404);
  });
});

describe("Idempotency-Key", () => {
  const create = (name: string, headers: Record<string, string>, key?: string) =>
    call("POST", "/v1/keys", { json: { name, scopes: ["read"] }, headers, ...(key !== undefined && { key }) });

  it("answers the same request the same, without keeping the secret readable", async () => {
    const headers = { "idempotency-key": "one" };
    const first = await create("a", headers);
    const again = await create("a", headers);
    expect(again.status).toBe(201);
    const answer = (await first.json()) as { key: string };
    expect(await again.json()).toEqual(answer);
    const { results } = await env.DB.prepare("SELECT * FROM idempotency_keys").all();
    expect(JSON.stringify(results)).not.toContain(answer.key);
  });

  it("refuses another request with 409", async () => {
    const headers = { "idempotency-key": "two" };
    expect((await create("a", headers)).status).toBe(201);
    expect(await problemOf(await create("b", headers))).toMatchObject({ status: 409, code: "idempotency_conflict" });
  });

  it("runs one of many at once", async () => {
    const answers = await Promise.all(Array.from({ length: 6 }, () => create("same", { "idempotency-key": "three" })));
    const done = await Promise.all(
      answers.filter(({ status }) => status === 201).map((one) => one.json() as Promise<{ key_id: string }>),
    );
    expect(new Set(done.map((one) => one.key_id)).size).toBe(1);
    for (const { status } of answers) expect([201, 409]).toContain(status);
  });

  it("belongs to the environment and to the operation", async () => {
    const headers = { "idempotency-key": "four" };
    const other = await newKey(["admin"], "elsewhere");
    const mine = (await (await create("a", headers)).json()) as { key_id: string };
    const theirs = (await (await create("a", headers, other.key)).json()) as { key_id: string };
    expect(theirs.key_id).not.toBe(mine.key_id);
    expect((await call("POST", "/v1/hosts", { json: { name: "a" }, headers })).status).toBe(201);
  });

  it("is given back by a request that fails", async () => {
    const headers = { "idempotency-key": "five" };
    const refused = await call("POST", "/v1/sandboxes", { json: { image: "im-dddddddddddddddddddddd" }, headers });
    expect(await problemOf(refused)).toMatchObject({ status: 404, code: "image_not_found" });
    const again = await call("POST", "/v1/sandboxes", { json: { image: "fake" }, headers });
    expect(again.status).toBe(201);
  });

  it("must be printable", async () => {
    const response = await create("a", { "idempotency-key": "a b" });
    expect(await problemOf(response)).toMatchObject({ status: 400, errors: [{ path: "Idempotency-Key" }] });
  });
});

describe("while the catalog does not answer", () => {
  it("a key that was used a moment ago is taken, and no other", async () => {
    const [used, unused] = [await newKey(["read"]), await newKey(["read"])];
    const get = async (key: string) => (await call("GET", "/v1/sandboxes/sb-aaaaaaaaaaaaaaaaaaaaaa", { key })).status;
    expect(await get(used.key)).toBe(404);
    await env.DB.exec("ALTER TABLE api_keys RENAME TO api_keys_away");
    try {
      expect(await get(used.key)).toBe(404);
      expect(await get(unused.key)).toBe(503);
    } finally {
      await env.DB.exec("ALTER TABLE api_keys_away RENAME TO api_keys");
    }
    await call("DELETE", `/v1/keys/${used.key_id}`);
    expect(await get(used.key)).toBe(401);
    await env.DB.exec("ALTER TABLE api_keys RENAME TO api_keys_away");
    try {
      expect(await get(used.key)).toBe(503);
    } finally {
      await env.DB.exec("ALTER TABLE api_keys_away RENAME TO api_keys");
    }
  });
});
