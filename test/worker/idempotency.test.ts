import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { SandboxCatalog } from "../../src/catalog/sandboxes.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
});

let count = 0;
const newKey = () => ({ "idempotency-key": `key-${++count}` });
const create = (json: object, headers: Record<string, string>) => call("POST", "/v1/sandboxes", { json, headers });
const idOf = async (response: Response) => {
  if (response.status !== 201) throw new Error(await response.text());
  return ((await response.json()) as Sandbox).sandbox_id;
};
const listed = async (appId: string) =>
  (await new SandboxCatalog(env.DB).list({ environment: "main", appId }, { limit: 100 })).data;

/** What is left when the Worker dies between what it made and the answer. */
const loseAnswer = (headers: Record<string, string>) =>
  env.DB.prepare("UPDATE idempotency_keys SET answer = NULL WHERE key = ?").bind(headers["idempotency-key"]).run();

describe("a create with an idempotency key", () => {
  it("that comes fifty times at once makes one sandbox and gives one answer", async () => {
    const headers = newKey();
    const answers = await Promise.all(
      Array.from({ length: 50 }, () => create({ app_id: "dup", name: "dup" }, headers)),
    );
    const bodies = await Promise.all(answers.map((answer) => answer.text()));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    expect(new Set(bodies).size).toBe(1);
    expect(await listed("dup")).toHaveLength(1);
  });

  it("whose answer was lost with the Worker finds what it has made", async () => {
    const headers = newKey();
    const first = await idOf(await create({ app_id: "lost", name: "lost" }, headers));
    await loseAnswer(headers);
    expect(await idOf(await create({ app_id: "lost", name: "lost" }, headers))).toBe(first);
    await loseAnswer(headers);
    await terminate(first);
    const other = await idOf(await create({ app_id: "lost", name: "lost" }, {}));
    // Its name has gone to another meanwhile: it is still the one that this key has made.
    expect(await idOf(await create({ app_id: "lost", name: "lost" }, headers))).toBe(first);
    expect((await listed("lost")).map(({ sandbox_id }) => sandbox_id)).toEqual([other, first]);
  });

  it("that was refused gives its key back, unless another with it may have made something", async () => {
    const headers = newKey();
    const refused = await create({ image: "im-dddddddddddddddddddddd" }, headers);
    expect((await problemOf(refused)).code).toBe("image_not_found");
    const made = await idOf(await create({ app_id: "back" }, headers));
    expect(await problemOf(await create({ app_id: "other" }, headers))).toMatchObject({
      status: 409,
      code: "idempotency_conflict",
    });
    expect(await idOf(await create({ app_id: "back" }, headers))).toBe(made);
  });

  it("that fails because the catalog does keeps its plan: the next one makes one sandbox", async () => {
    const headers = newKey();
    await env.DB.exec("ALTER TABLE sandbox_names RENAME TO names_away");
    const failed = await create({ app_id: "plan", name: "plan" }, headers).finally(() =>
      env.DB.exec("ALTER TABLE names_away RENAME TO sandbox_names"),
    );
    expect(await problemOf(failed)).toMatchObject({ status: 503, code: "catalog_unavailable" });
    expect(failed.headers.get("retry-after")).toBe("1");
    const made = await idOf(await create({ app_id: "plan", name: "plan" }, headers));
    expect(await idOf(await create({ app_id: "plan", name: "plan" }, headers))).toBe(made);
    expect(await listed("plan")).toHaveLength(1);
  });

  it("is forgotten after a day", async () => {
    const headers = newKey();
    const first = await idOf(await create({ app_id: "day" }, headers));
    await env.DB.prepare("UPDATE idempotency_keys SET created_at = created_at - 86400001 WHERE key = ?")
      .bind(headers["idempotency-key"])
      .run();
    expect(await idOf(await create({ app_id: "day", tags: { other: "1" } }, headers))).not.toBe(first);
  });
});

describe.each([
  ["keys", { name: "k", scopes: ["read"] }],
  ["hosts", { name: "h" }],
  ["secrets", { name: "s", values: { A: "b" } }],
])("a POST to /%s with an idempotency key", (path, json) => {
  it("makes one, at once and after a crash", async () => {
    const headers = newKey();
    const post = async () => (await call("POST", `/v1/${path}`, { json, headers })).text();
    const answers = await Promise.all(Array.from({ length: 10 }, post));
    await loseAnswer(headers);
    answers.push(await post());
    expect(new Set(answers).size).toBe(1);
    expect(answers[0]).toContain(`"${path.slice(0, -1)}_id"`);
  });
});

describe("a snapshot with an idempotency key", () => {
  it("is one, at once and after a crash", async () => {
    const sandboxId = await startSandbox();
    const headers = newKey();
    const post = async () => (await call("POST", `/v1/sandboxes/${sandboxId}/snapshot`, { headers })).text();
    const answers = await Promise.all(Array.from({ length: 5 }, post));
    await loseAnswer(headers);
    answers.push(await post());
    expect(new Set(answers).size).toBe(1);
    const { image_id } = JSON.parse(answers[0]!) as { image_id: string };
    const { data } = (await (await call("GET", "/v1/images")).json()) as { data: { sandbox_id: string }[] };
    expect(data.filter(({ sandbox_id }) => sandbox_id === sandboxId)).toHaveLength(1);
    expect(fakeHost.images.has(image_id)).toBe(true);
  });
});
