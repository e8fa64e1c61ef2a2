import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { NameCatalog } from "../../src/catalog/names.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, problemOf, forgetHosts } from "./client.ts";

const create = async (json: object): Promise<Sandbox> => {
  const response = await call("POST", "/v1/sandboxes", { json });
  if (response.status !== 201) throw new Error(await response.text());
  return response.json();
};

beforeEach(async () => {
  await forgetHosts();
  await connectHost();
});

describe("a name", () => {
  it("is held by one live sandbox of an app, and free once that has ended", async () => {
    const first = await create({ name: "db", app_id: "a" });
    const problem = await problemOf(await call("POST", "/v1/sandboxes", { json: { name: "db", app_id: "a" } }));
    expect(problem).toMatchObject({ status: 409, code: "name_taken" });
    await create({ name: "db", app_id: "b" });
    await create({ name: "db" });
    expect((await call("DELETE", `/v1/sandboxes/${first.sandbox_id}`)).status).toBe(204);
    await create({ name: "db", app_id: "a" });
  });

  it("goes to one of fifty who ask at once, and to one again when that has ended", async () => {
    for (let round = 0; round < 3; round += 1) {
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => call("POST", "/v1/sandboxes", { json: { name: "race" } })),
      );
      expect(answers.map(({ status }) => status).toSorted()).toEqual([201, ...Array.from({ length: 49 }, () => 409)]);
      const winner = (await answers.find(({ status }) => status === 201)!.json()) as Sandbox;
      for (const answer of answers) {
        if (answer.status === 409) expect((await problemOf(answer)).detail).toContain(winner.sandbox_id);
      }
      const held = (await (await call("GET", "/v1/sandboxes?name=race&state=live")).json()) as { data: Sandbox[] };
      expect(held.data.map(({ sandbox_id }) => sandbox_id)).toEqual([winner.sandbox_id]);
      expect((await call("DELETE", `/v1/sandboxes/${winner.sandbox_id}`)).status).toBe(204);
    }
  });

  it("of one that ends by itself is free at once, whatever the catalog knows", async () => {
    const { sandbox_id } = await create({ name: "brief", timeout: 1 });
    await env.DB.exec("ALTER TABLE sandboxes RENAME TO sandboxes_away");
    try {
      await expect
        .poll(async () => (await call("GET", `/v1/sandboxes/${sandbox_id}`)).json(), { timeout: 4000 })
        .toMatchObject({ finish_reason: "timeout" });
      expect((await create({ name: "brief" })).name).toBe("brief");
    } finally {
      await env.DB.exec("ALTER TABLE sandboxes_away RENAME TO sandboxes");
    }
  });

  it("is taken over from a create that died on the way, after a while", async () => {
    const names = new NameCatalog(env.DB);
    const name = { environment: "main", appId: undefined, name: "ghost" };
    await names.claimName(name, "sb-gggggggggggggggggggggg", Date.now());
    expect((await call("POST", "/v1/sandboxes", { json: { name: "ghost" } })).status).toBe(409);
    await env.DB.exec("UPDATE sandbox_names SET claimed_at = claimed_at - 61000 WHERE name = 'ghost'");
    await create({ name: "ghost" });
  });
});
