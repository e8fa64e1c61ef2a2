import { beforeEach, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { EgressHeader } from "../../src/contract/network.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import { call, HOST_ID, hostInfo, problemOf, reportHost } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { createIn, endOf, envOf, hidesTheValue, idOfNew, newSecret, remove, VALUE } from "./secret-calls.ts";
import { fakeHost } from "./worker.ts";

hidesTheValue();

beforeEach(async () => {
  const info = hostInfo(HOST_ID);
  const capabilities = { ...info.capabilities, network_rules: true, egress_headers: true };
  await reportHost({ url: "http://127.0.0.1:9", info: { ...info, capabilities }, containers: [] });
});

const headersOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.spec.network?.headers;
const header = (secret: string, more: Partial<EgressHeader> = {}): EgressHeader => ({
  domain: "api.test",
  header: "authorization",
  secret,
  ...more,
});

describe("a header with a secret in it", () => {
  it("is told to the host, and is in nothing that the sandbox or the API has", async () => {
    const { secret_id: id, name } = await newSecret({ TOKEN: VALUE });
    const two = await idOfNew({ A: "a", B: "b" });
    const asked = [header(name, { prefix: "Bearer " }), header(two, { header: "X-Api-Key", key: "B" })];
    const sandboxId = await startSandbox({ egress_headers: asked });
    expect(headersOf(sandboxId)).toEqual([
      { domain: "api.test", header: "authorization", value: `Bearer ${VALUE}` },
      { domain: "api.test", header: "x-api-key", value: "b" },
    ]);
    expect(envOf(sandboxId)).toEqual({});
    const shown = await call("GET", `/v1/sandboxes/${sandboxId}`);
    expect(await shown.clone().text()).not.toContain(VALUE);
    expect(((await shown.json()) as Sandbox).egress_headers).toEqual([
      header(id, { prefix: "Bearer " }),
      header(two, { header: "x-api-key", key: "B" }),
    ]);
    await terminate(sandboxId);
  });

  it("has the value as it is at each start", async () => {
    const id = await idOfNew({ TOKEN: "old" });
    const before = await startSandbox({ egress_headers: [header(id)] });
    await call("PUT", `/v1/secrets/${id}`, { json: { values: { RENAMED: "new" } } });
    const fork = await call("POST", `/v1/sandboxes/${before}/fork`, { json: {} });
    const after = ((await fork.json()) as Fork).data[0]!.sandbox_id;
    await expect.poll(() => fakeHost.containers.has(after)).toBe(true);
    expect([before, after].map((one) => headersOf(one)?.[0]?.value)).toEqual(["old", "new"]);
    await Promise.all([before, after].map(terminate));
  });

  it("names a secret and a value that are there", async () => {
    const [one, two] = await Promise.all([idOfNew({ A: VALUE }), idOfNew({ A: VALUE, B: VALUE })]);
    const none = newId("secret");
    const missing = await problemOf(
      await createIn({ secrets: ["nope"], egress_headers: [header(one), header(none, { header: "x" })] }),
    );
    expect(missing).toMatchObject({ status: 404, code: "secret_not_found" });
    expect(missing.errors?.map(({ path }) => path)).toEqual(["secrets.0", "egress_headers.1.secret"]);
    const wrong = [header(one, { key: "B" }), header(two, { header: "x" }), header(two, { header: "y", key: "B" })];
    const keyless = await problemOf(await createIn({ egress_headers: wrong }));
    expect(keyless).toMatchObject({ status: 400, code: "invalid_request" });
    expect(keyless.errors).toEqual([
      { path: "egress_headers.0.key", message: "the secret has no value B" },
      { path: "egress_headers.1.key", message: "must name one of the secret's 2 values" },
    ]);
  });

  it("does not start a sandbox whose secret no longer has the value, or one that is no header", async () => {
    const id = await idOfNew({ A: VALUE });
    const broken = await idOfNew({ A: `${VALUE}\r\nHost: other` });
    const blank = await idOfNew({ A: "" });
    await call("PUT", `/v1/secrets/${id}`, { json: { values: { B: VALUE } } });
    const sandboxId = newId("sandbox");
    const create = { image: "fake", egress_headers: [header(id, { key: "A" })] };
    await objectOf(sandboxId).create({ sandboxId, environment: "main", create, backend: "docker", place: undefined });
    const error = `The secret ${id} has no value A any more.`;
    expect(await endOf(sandboxId)).toMatchObject({ finish_reason: "start_failed", error });
    for (const secret of [broken, blank]) {
      const { sandbox_id: sandboxId } = (await (
        await createIn({ egress_headers: [header(secret)] })
      ).json()) as Sandbox;
      const ended = await endOf(sandboxId);
      expect(ended.error).toBe(`The value A of the secret ${secret} cannot be sent in a header.`);
      expect(fakeHost.containers.has(sandboxId)).toBe(false);
    }
  });

  it("keeps its secret from being deleted while a sandbox lives", async () => {
    const { secret_id: id, name } = await newSecret({ A: VALUE });
    const user = await startSandbox({ egress_headers: [header(name)] });
    expect(await problemOf(await remove(id))).toMatchObject({ status: 409, sandboxes: [user], sandbox_count: 1 });
    await terminate(user);
    expect((await getSandbox(user)).state).toBe("terminated");
    expect((await remove(id)).status).toBe(204);
  });
});
