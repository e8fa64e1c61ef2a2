import { env, runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Secret } from "../../src/contract/secret.ts";
import { call, newKey, problemOf } from "./client.ts";
import { objectOf, startSandbox, terminate } from "./sandboxes.ts";
import {
  VALUE,
  newName,
  post,
  newSecret,
  idOfNew,
  remove,
  rowOf,
  envOf,
  endOf,
  createIn,
  vaultWith,
  readWith,
  hidesTheValue,
} from "./secret-calls.ts";

hidesTheValue();

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
