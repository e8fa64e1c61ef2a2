import { env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import { call, problemOf } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";
import { VALUE, newSecret, idOfNew, remove, envOf, endOf, createIn, hidesTheValue } from "./secret-calls.ts";

hidesTheValue();

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
