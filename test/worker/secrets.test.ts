import { createExecutionContext, env, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Secret, SecretRewrap } from "../../src/contract/secret.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import type { KeyRingVariables } from "../../src/secrets/key-ring.ts";
import { SecretVault } from "../../src/secrets/vault.ts";
import { ADMIN_KEY, call, connectHost, newKey, ORIGIN, problemOf } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import worker, { fakeHost } from "./worker.ts";

const VALUE = "s3cr3t-value-that-nobody-sees";
const [FIRST_KEY, SECOND_KEY, THIRD_KEY] = ["first", "second", "third"].map((word) => word.padEnd(40, "-key"));

let count = 0;
const newName = () => `secret-${++count}`;
const post = (json: object, options: object = {}) => call("POST", "/v1/secrets", { json, ...options });
async function newSecret(values: Record<string, string>, name = newName(), key = ADMIN_KEY): Promise<Secret> {
  const response = await post({ name, values }, { key });
  expect(response.status, await response.clone().text()).toBe(201);
  return response.json();
}
const idOfNew = async (values: Record<string, string>) => (await newSecret(values)).secret_id;
const remove = (id: string, key = ADMIN_KEY) => call("DELETE", `/v1/secrets/${id}`, { key });
const rowOf = (id: string) =>
  env.DB.prepare("SELECT * FROM secrets WHERE secret_id = ?").bind(id).first<Record<string, string>>();
const envOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.spec.env;
async function endOf(sandboxId: string): Promise<Sandbox> {
  await expect.poll(async () => (await getSandbox(sandboxId)).finish_reason, { timeout: 5000 }).toBeDefined();
  return getSandbox(sandboxId);
}
const createIn = async (json: object, more: Partial<KeyRingVariables> = {}): Promise<Response> => {
  const headers = { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" };
  const request = new Request(`${ORIGIN}/v1/sandboxes`, { method: "POST", headers, body: JSON.stringify(json) });
  return worker.fetch(request, { ...env, ...more }, createExecutionContext());
};
const vaultWith = (more: Partial<KeyRingVariables>) =>
  new SecretVault({ DB: env.DB, SIGNING_SECRET: env.SIGNING_SECRET, ...more });
/** A secret under a key that is not the Worker's. */
async function newUnder(more: Partial<KeyRingVariables>, values: Record<string, string> = { A: VALUE }) {
  const place = { environment: "main", secretId: newId("secret") };
  await vaultWith(more).add(place, newName(), values, Date.now());
  return place.secretId;
}
const readWith = async (more: Partial<KeyRingVariables>, secretId: string) =>
  (await vaultWith(more).open("main", [secretId]))[0];

const logged: unknown[] = [];
beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
  for (const level of ["log", "warn", "error"] as const)
    vi.spyOn(console, level).mockImplementation((...line) => logged.push(...line));
});
afterEach(() => {
  vi.restoreAllMocks();
  expect(logged.map((one) => (one instanceof Error ? `${one.stack} ${String(one.cause)}` : String(one))).join())
    .not //
    .toContain(VALUE);
});

describe("a secret", () => {
  it("is shown with the names of its variables, and never with what they hold", async () => {
    const response = await post({ name: newName(), values: { TOKEN: VALUE, EMPTY: "" } });
    expect(response.status).toBe(201);
    const secret = (await response.clone().json()) as Secret;
    expect(secret).toEqual({
      secret_id: expect.stringMatching(/^se-[a-z0-9]{22}$/),
      name: expect.any(String),
      keys: ["TOKEN", "EMPTY"],
      created_at: expect.any(String),
      updated_at: secret.created_at,
    });
    const path = `/v1/secrets/${secret.secret_id}`;
    const answers = [response, await call("GET", path), await call("GET", "/v1/secrets")];
    answers.push(await call("PUT", path, { json: { values: { OTHER: VALUE } } }));
    const texts = await Promise.all(answers.map((one) => one.text()));
    for (const text of texts) expect(text).not.toContain(VALUE);
    expect(JSON.parse(texts[1]!)).toEqual(secret);
    expect((JSON.parse(texts[2]!) as { data: Secret[] }).data[0]).toEqual(secret);
    expect(JSON.parse(texts[3]!)).toEqual({ ...secret, keys: ["OTHER"], updated_at: expect.any(String) });
    expect((await remove(secret.secret_id)).status).toBe(204);
    expect(await problemOf(await call("GET", path))).toMatchObject({ status: 404, code: "secret_not_found" });
    expect((await remove(secret.secret_id)).status).toBe(404);
    expect((await call("PUT", path, { json: { values: {} } })).status).toBe(404);
  });

  it("is listed newest first, by pages", async () => {
    const { key } = await newKey(["write"], "paged");
    const names = ["a", "b", "c"];
    for (const name of names) await newSecret({ A: VALUE }, name, key);
    const read = async (query: string) =>
      (await call("GET", `/v1/secrets?${query}`, { key })).json() as Promise<{ data: Secret[]; next_cursor?: string }>;
    const first = await read("limit=2");
    const second = await read(`limit=2&cursor=${first.next_cursor}`);
    expect(second.next_cursor).toBeUndefined();
    const all = [...first.data, ...second.data];
    expect(all.map(({ name }) => name).toSorted()).toEqual(names);
    expect(all.map(({ created_at }) => created_at)).toEqual(
      all
        .map((one) => one.created_at)
        .toSorted()
        .toReversed(),
    );
  });

  it("belongs to its environment", async () => {
    const { key } = await newKey(["write"], "stranger");
    const { secret_id: id, name } = await newSecret({ A: VALUE });
    for (const [method, options] of [["GET"], ["PUT", { json: { values: { A: "x" } } }], ["DELETE"]] as const) {
      const response = await call(method, `/v1/secrets/${id}`, { key, ...options });
      expect(await problemOf(response)).toMatchObject({ status: 404, code: "secret_not_found" });
    }
    for (const one of [id, name]) {
      const response = await call("POST", "/v1/sandboxes", { key, json: { secrets: [one] } });
      expect(await problemOf(response)).toMatchObject({ code: "secret_not_found", errors: [{ path: "secrets.0" }] });
    }
    expect((await newSecret({ A: "theirs" }, name, key)).name).toBe(name);
    expect(await readWith({}, id)).toEqual({ A: VALUE });
    await remove(id);
  });

  it("has a name that no other of its environment has, until it is gone", async () => {
    const { secret_id: id, name } = await newSecret({ A: VALUE });
    const problem = await problemOf(await post({ name, values: {} }));
    expect(problem).toMatchObject({ status: 409, code: "conflict", detail: expect.stringContaining(id) });
    await remove(id);
    expect((await newSecret({}, name)).secret_id).not.toBe(id);
  });

  it.each([
    ["values.NVIDIA_VISIBLE_DEVICES", { values: { NVIDIA_VISIBLE_DEVICES: "all" } }],
    ["values", { values: { A: VALUE.repeat(10_000) } }],
    ["values.1A", { values: { "1A": VALUE } }],
    ["values.A", { values: { A: `${VALUE}\0` } }],
    ["name", { name: newId("secret"), values: { A: VALUE } }],
  ])("is refused for its %s, without a word of what it holds", async (path, json) => {
    const response = await post({ name: newName(), ...json });
    const text = await response.clone().text();
    expect(text).not.toContain(VALUE);
    expect(await problemOf(response)).toMatchObject({ status: 400, errors: [{ path }] });
  });

  it("is made once under an idempotency key, with the same values", async () => {
    const [name, headers] = [newName(), { "idempotency-key": newName() }];
    const make = async (values: object) => post({ name, values }, { headers });
    const texts = await Promise.all([1, 2, 3].map(async () => (await make({ A: VALUE })).text()));
    expect(new Set(texts).size).toBe(1);
    expect(JSON.parse(texts[0]!)).toMatchObject({ name });
    expect(await problemOf(await make({ A: "other" }))).toMatchObject({ status: 409, code: "idempotency_conflict" });
  });
});

describe("what is stored", () => {
  it("holds no value: not in the catalog, not in the sandbox's object, not in its events", async () => {
    const response = await post(
      { name: newName(), values: { A: VALUE } },
      { headers: { "idempotency-key": newName() } },
    );
    const { secret_id: id } = (await response.json()) as Secret;
    const sandboxId = await startSandbox({ secrets: [id] });
    expect(envOf(sandboxId)).toEqual({ A: VALUE });
    const tables = ["secrets", "sandboxes", "sandbox_tags", "idempotency_keys"];
    const rows = await Promise.all(
      tables.map(async (table) => (await env.DB.prepare(`SELECT * FROM ${table}`).all()).results),
    );
    const object = await runInDurableObject(objectOf(sandboxId), (_, { storage }) =>
      ["sandbox", "processes", "events"].map((table) => storage.sql.exec(`SELECT * FROM ${table}`).toArray()),
    );
    const all = JSON.stringify([rows, object]);
    expect(all).toContain(id);
    for (const form of [VALUE, btoa(VALUE), btoa(`A=${VALUE}`).slice(0, -2)]) expect(all).not.toContain(form);
    const events = await (await call("GET", `/v1/sandboxes/${sandboxId}/events?follow=false`)).text();
    expect(events).not.toContain(VALUE);
    await terminate(sandboxId);
  });

  it("is different each time, also of the same values", async () => {
    const [one, other] = await Promise.all(
      [idOfNew({ A: VALUE }), idOfNew({ A: VALUE })].map(async (id) => rowOf(await id)),
    );
    expect(one!["sealed"]).not.toBe(other!["sealed"]);
    expect(one!["data_key"]).not.toBe(other!["data_key"]);
  });

  it.each(["sealed", "data_key", "sealed, data_key"])("is worth nothing in another row: %s", async (columns) => {
    const [mine, theirs] = await Promise.all([idOfNew({ A: "mine" }), idOfNew({ A: VALUE })]);
    await env.DB.prepare(
      `UPDATE secrets SET (${columns}) = (SELECT ${columns} FROM secrets WHERE secret_id = ?) WHERE secret_id = ?`,
    )
      .bind(theirs, mine)
      .run();
    const { sandbox_id: id } = (await (await createIn({ secrets: [mine] })).json()) as Sandbox;
    const { finish_reason, error } = await endOf(id);
    expect(finish_reason).toBe("start_failed");
    expect(error).toBe(`What is stored of the secret ${mine} is not what was written.`);
  });

  it("is worth nothing in another environment", async () => {
    const id = await idOfNew({ A: VALUE });
    await env.DB.prepare("UPDATE secrets SET environment = 'thief' WHERE secret_id = ?").bind(id).run();
    await expect(vaultWith({}).open("thief", [id])).rejects.toMatchObject({ code: "secrets_unavailable" });
  });

  it("takes any value that a variable may have, up to the limit", async () => {
    const values = { A: "", B: "=\n\u0001é😀", C: "\ufeffx=y", LONG: "\u0001".repeat(262_000) };
    expect(await readWith({}, await idOfNew(values))).toEqual(values);
    expect(await readWith({}, await idOfNew({}))).toEqual({});
  });
});

describe("a sandbox with secrets", () => {
  it("has their variables, later ones over earlier, and its own over all", async () => {
    const one = await newSecret({ A: "one", B: "one", C: "one", D: "one" });
    const two = await newSecret({ B: "two", C: "two" });
    const json = { secrets: [one.secret_id, two.name], env: { C: "own", E: "own" } };
    const sandboxId = await startSandbox(json);
    expect(envOf(sandboxId)).toEqual({ A: "one", B: "two", C: "own", D: "one", E: "own" });
    expect((await getSandbox(sandboxId)).secrets).toEqual([one.secret_id, two.secret_id]);
    const turned = await startSandbox({ ...json, secrets: [two.name, one.name] });
    expect(envOf(turned)).toMatchObject({ B: "one", C: "own" });
    await Promise.all([sandboxId, turned].map(terminate));
  });

  it("has them as they are at its start; one that runs keeps its own", async () => {
    const id = await idOfNew({ A: "old", B: "old" });
    const before = await startSandbox({ secrets: [id] });
    await call("PUT", `/v1/secrets/${id}`, { json: { values: { A: "new" } } });
    const after = await startSandbox({ secrets: [id] });
    expect([envOf(before), envOf(after)]).toEqual([{ A: "old", B: "old" }, { A: "new" }]);
    const fork = await call("POST", `/v1/sandboxes/${after}/fork`, { json: {} });
    const { data } = (await fork.json()) as Fork;
    expect(data[0]?.secrets).toEqual([id]);
    await expect.poll(() => fakeHost.containers.has(data[0]!.sandbox_id)).toBe(true);
    expect(envOf(data[0]!.sandbox_id)).toEqual({ A: "new" });
    await Promise.all([before, after, data[0]!.sandbox_id].map(terminate));
  });

  it("names those that are there, each once, and not too many", async () => {
    const { secret_id: id, name } = await newSecret({ A: VALUE });
    const none = newId("secret");
    const problem = await problemOf(await createIn({ secrets: [id, none, "nope"] }));
    expect(problem).toMatchObject({ status: 404, code: "secret_not_found", detail: expect.stringContaining(none) });
    expect(problem.errors?.map(({ path }) => path)).toEqual(["secrets.1", "secrets.2"]);
    const twice = await problemOf(await createIn({ secrets: [id, name] }));
    expect(twice).toMatchObject({ status: 400, errors: [{ path: "secrets.1" }] });
    const many = await problemOf(await createIn({ secrets: Array.from({ length: 21 }, (_, at) => `s${at}`) }));
    expect(many).toMatchObject({ status: 400, errors: [{ path: "secrets" }] });
  });

  it("does not start where its variables are too long in all", async () => {
    const secrets = await Promise.all(["A", "B"].map((name) => idOfNew({ [name]: "x".repeat(200_000) })));
    const { sandbox_id: id } = (await (await createIn({ secrets })).json()) as Sandbox;
    expect(await endOf(id)).toMatchObject({
      finish_reason: "start_failed",
      error: "The variables of the sandbox and of its secrets must not be longer than 262144 bytes in all.",
    });
  });

  it("does not start where a secret has gone meanwhile", async () => {
    const secretId = newId("secret");
    const sandboxId = newId("sandbox");
    const create = { secrets: [secretId], image: "fake" };
    await objectOf(sandboxId).create({ sandboxId, environment: "main", create, backend: "docker", place: undefined });
    expect(await endOf(sandboxId)).toMatchObject({
      finish_reason: "start_failed",
      error: `There is no secret ${secretId} any more.`,
    });
    expect(fakeHost.containers.has(sandboxId)).toBe(false);
  });
});

describe("a secret in use", () => {
  it("is not deleted, and who uses it is named", async () => {
    const { secret_id: id, name } = await newSecret({ A: VALUE });
    const users = [await startSandbox({ secrets: [id] }), await startSandbox({ secrets: [name] })];
    const problem = await problemOf(await remove(id));
    expect(problem).toMatchObject({ status: 409, code: "conflict", sandbox_count: 2 });
    expect((problem["sandboxes"] as string[]).toSorted()).toEqual(users.toSorted());
    for (const user of users) expect(problem.detail).toContain(user);
    await terminate(users[0]!);
    expect(await problemOf(await remove(id))).toMatchObject({ sandboxes: [users[1]], sandbox_count: 1 });
    await terminate(users[1]!);
    expect((await remove(id)).status).toBe(204);
  });

  it("is not read before the catalog, which whoever deletes it asks, has the sandbox", async () => {
    const secrets = [await idOfNew({ A: VALUE })];
    await env.DB.exec("ALTER TABLE sandboxes RENAME TO sandboxes_away");
    const created = await createIn({ secrets });
    const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
    await new Promise((wake) => setTimeout(wake, 700));
    const { state } = await getSandbox(sandboxId);
    await env.DB.exec("ALTER TABLE sandboxes_away RENAME TO sandboxes");
    expect([state, fakeHost.containers.has(sandboxId)]).toEqual(["scheduled", false]);
    await expect.poll(async () => (await getSandbox(sandboxId)).state, { timeout: 5000 }).toBe("ready");
    expect(envOf(sandboxId)).toEqual({ A: VALUE });
    await terminate(sandboxId);
  });

  it("is either seen by who deletes it, or the sandbox does not start", { timeout: 30_000 }, async () => {
    const seen = new Set<string>();
    for (let turn = 0; turn < 12; turn++) {
      const id = await idOfNew({ A: VALUE });
      const creating = createIn({ secrets: [id] });
      await new Promise((wake) => setTimeout(wake, turn));
      const [created, deleted] = await Promise.all([creating, remove(id)]);
      expect([204, 409]).toContain(deleted.status);
      if (created.status !== 201) {
        expect([(await problemOf(created)).code, deleted.status]).toEqual(["secret_not_found", 204]);
        seen.add("refused");
        continue;
      }
      const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
      await expect.poll(async () => (await getSandbox(sandboxId)).state).toMatch(/ready|terminated/);
      const { state, error } = await getSandbox(sandboxId);
      const [wanted, why] =
        deleted.status === 409 ? ["ready", undefined] : ["terminated", `There is no secret ${id} any more.`];
      expect({ state, error }).toEqual({ state: wanted, error: why });
      seen.add(state);
      await terminate(sandboxId);
    }
    expect(seen.size).toBeGreaterThan(0);
  });
});

describe("the deployment's key", () => {
  it("may change: an old one still opens what is under it, which is under the new one then", async () => {
    const id = await newUnder({ SECRETS_KEY: FIRST_KEY! });
    const before = (await rowOf(id))!;
    const both = { SECRETS_KEY: SECOND_KEY!, SECRETS_KEY_OLD: `${THIRD_KEY}, ${FIRST_KEY}` };
    expect(await readWith(both, id)).toEqual({ A: VALUE });
    const after = (await rowOf(id))!;
    expect(after["wrapped_by"]).not.toBe(before["wrapped_by"]);
    expect(after["data_key"]).not.toBe(before["data_key"]);
    expect(after["sealed"]).toBe(before["sealed"]);
    expect(await readWith({ SECRETS_KEY: SECOND_KEY! }, id)).toEqual({ A: VALUE });
  });

  it("may be given where there was none, and the signing secret may change after it", async () => {
    const id = await newUnder({});
    expect(await readWith({ SECRETS_KEY: FIRST_KEY! }, id)).toEqual({ A: VALUE });
    const other = await newUnder({});
    const changed = { SIGNING_SECRET: THIRD_KEY!, SECRETS_KEY: FIRST_KEY! };
    await expect(readWith(changed, other)).rejects.toMatchObject({ code: "secrets_unavailable" });
    expect(await readWith({ ...changed, SECRETS_KEY_OLD: env.SIGNING_SECRET }, other)).toEqual({ A: VALUE });
    for (const one of [id, other]) expect(await readWith(changed, one)).toEqual({ A: VALUE });
  });

  it("that is missing is named by its fingerprint", async () => {
    const id = await newUnder({ SECRETS_KEY: FIRST_KEY! });
    const fingerprint = (await rowOf(id))!["wrapped_by"]!;
    expect(fingerprint).toMatch(/^[0-9a-f]{16}$/);
    const problem = await problemOf(await createIn({ secrets: [id] }));
    expect(problem).toMatchObject({ status: 503, code: "secrets_unavailable", secret_id: id, key: fingerprint });
    expect(problem.detail).toContain(fingerprint);
    expect(JSON.stringify(problem)).not.toContain(VALUE);
    // The Worker has it, the sandbox's object has not got it yet.
    const created = await createIn({ secrets: [id] }, { SECRETS_KEY: FIRST_KEY! });
    const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
    const { finish_reason, error } = await endOf(sandboxId);
    expect(finish_reason).toBe("start_failed");
    expect(error).toContain(fingerprint);
  });

  it.each(["too-short", `${"x".repeat(40)},y`])("is refused where it is none: %s", async (SECRETS_KEY) => {
    const id = await newUnder({});
    const problem = await problemOf(await createIn({ secrets: [id] }, { SECRETS_KEY }));
    expect(problem).toMatchObject({ status: 503, code: "secrets_unavailable" });
    expect(problem.detail).toContain("SECRETS_KEY");
    expect(JSON.stringify(problem)).not.toContain(SECRETS_KEY);
  });

  it("is changed for all that is there by a rewrap, which says what is left", { timeout: 30_000 }, async () => {
    await env.DB.exec("DELETE FROM secrets");
    const old = { SECRETS_KEY: FIRST_KEY! };
    const ids = await Promise.all(Array.from({ length: 230 }, () => newUnder(old)));
    const lost = await newUnder({ SECRETS_KEY: THIRD_KEY! });
    const broken = ids.pop()!;
    await env.DB.prepare("UPDATE secrets SET data_key = 'AAAA' WHERE secret_id = ?").bind(broken).run();
    const now = { SECRETS_KEY: SECOND_KEY!, SECRETS_KEY_OLD: FIRST_KEY! };
    const rewrap = async (key = ADMIN_KEY) =>
      worker.fetch(
        new Request(`${ORIGIN}/v1/secrets/rewrap`, { method: "POST", headers: { authorization: `Bearer ${key}` } }),
        { ...env, ...now },
        createExecutionContext(),
      );
    const elsewhere = await newKey(["admin"], "elsewhere");
    expect(await problemOf(await rewrap(elsewhere.key))).toMatchObject({ status: 403 });
    const [oldKey, lostKey] = await Promise.all([broken, lost].map(async (id) => (await rowOf(id))!["wrapped_by"]!));
    const done = (await (await rewrap()).json()) as SecretRewrap;
    expect(done).toEqual({
      key: (await rowOf(ids[0]!))!["wrapped_by"],
      rewrapped: 229,
      failed: 1,
      keys: { [done.key]: 229, [oldKey!]: 1, [lostKey!]: 1 },
    });
    expect(await (await rewrap()).json()).toMatchObject({ rewrapped: 0, failed: 1, keys: done.keys });
    expect(await vaultWith({ SECRETS_KEY: SECOND_KEY! }).open("main", ids.slice(-2))).toEqual([
      { A: VALUE },
      { A: VALUE },
    ]);
    await env.DB.exec("DELETE FROM secrets");
  });
});
