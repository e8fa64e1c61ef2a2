import { createExecutionContext, env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { SecretRewrap } from "../../src/contract/secret.ts";
import { ADMIN_KEY, newKey, ORIGIN, problemOf } from "./client.ts";
import {
  VALUE,
  FIRST_KEY,
  SECOND_KEY,
  THIRD_KEY,
  rowOf,
  endOf,
  createIn,
  vaultWith,
  newUnder,
  readWith,
  hidesTheValue,
} from "./secret-calls.ts";
import worker from "./worker.ts";

hidesTheValue();

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
