import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { snapshot } from "./image-view.ts";
import { Instance, sleep } from "./instance.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";

const VALUE = "only-for-this-sandbox==";

describe.each(HOST_RUNTIMES)("secrets on the %s runtime", { timeout: 120_000 }, (runtime) => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
    await instance.call("POST", "/secrets", { name: "base", values: { TOKEN: "older", SHARED: "base" } });
    await instance.call("POST", "/secrets", { name: "api", values: { TOKEN: VALUE, MINE: "secret" } });
  }, 240_000);
  afterAll(() => instance?.remove());

  const create = async (body: object) => {
    const id = await instance.create({ timeout: 110, secrets: ["base", "api"], env: { MINE: "own" }, ...body });
    await instance.until(id, ["ready", "finished", "terminated"]);
    return id;
  };
  const sh = async (id: string, script: string, more: object = {}) =>
    (await instance.exec(id, ["sh", "-c", script], more)).stdout.trim();
  const VARIABLES = 'echo "$TOKEN $SHARED $MINE"';

  it("are the variables of its entrypoint and of every process, later over earlier and its own over all", async () => {
    const id = await create({ entrypoint: ["sh", "-c", `${VARIABLES}; sleep 100`] });
    expect(await sh(id, VARIABLES)).toBe(`${VALUE} base own`);
    const main = await instance.fetch(`/sandboxes/${id}/processes/main/stdout?follow=false`);
    expect((await main.text()).trim()).toBe(`${VALUE} base own`);
    expect(JSON.stringify(await instance.sandbox(id))).not.toContain(VALUE);
    const events = await (await instance.fetch(`/sandboxes/${id}/events?follow=false`)).text();
    expect(events).not.toContain(VALUE);
    await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("are in no snapshot, nor in what a sandbox from it has", async () => {
    const id = await create({});
    const image = await snapshot(instance, id);
    const child = await create({ image: image.image_id, secrets: [] });
    expect(await sh(child, "env")).not.toContain(VALUE);
    if (runtime === "docker") {
      const docker = new Docker();
      const tags = (await docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
      const ours = tags.filter((tag) => tag.endsWith(image.image_id));
      expect(ours).not.toEqual([]);
      for (const tag of ours) {
        const found = docker.getImage(tag);
        expect(JSON.stringify([await found.inspect(), await found.history()])).not.toContain(VALUE);
      }
      const labels = (await docker.listContainers({ all: true })).map(({ Labels }) => Labels);
      expect(JSON.stringify(labels)).not.toContain(VALUE);
    }
    await Promise.all([id, child].map((one) => instance.call("DELETE", `/sandboxes/${one}`)));
    expect(instance.output).not.toContain(VALUE);
  });

  it("cannot be deleted while a sandbox uses them, and can then", async () => {
    const id = await create({});
    const { data } = await instance.call<{ data: { secret_id: string; name: string }[] }>("GET", "/secrets");
    const { secret_id: secretId } = data.find(({ name }) => name === "base")!;
    const refused = await instance.fetch(`/secrets/${secretId}`, { method: "DELETE" });
    expect([refused.status, await refused.json()]).toEqual([409, expect.objectContaining({ sandboxes: [id] })]);
    await instance.call("DELETE", `/sandboxes/${id}`);
    await sleep(500);
    expect((await instance.fetch(`/secrets/${secretId}`, { method: "DELETE" })).status).toBe(204);
  });

  // The other runtime has no pools.
  const onDocker = runtime === "docker" ? it : undefined;
  onDocker?.("reach a sandbox from a warm pool as any other", async () => {
    await instance.call("POST", "/secrets", { name: "warm", values: { TOKEN: VALUE } });
    const pool = await instance.call<{ pool_id: string }>("POST", "/pools", { size: 1 });
    for (let ready = 0; ready === 0; await sleep(200))
      ({ ready } = await instance.call<{ ready: number }>("GET", `/pools/${pool.pool_id}`));
    const id = await create({ secrets: ["warm"] });
    expect(await sh(id, VARIABLES)).toBe(`${VALUE}  own`);
    expect(await sh(id, VARIABLES, { user: "root" })).toBe(`${VALUE}  own`);
    const labels = (await new Docker().listContainers({ all: true })).map(({ Labels }) => Labels);
    expect(JSON.stringify(labels)).not.toContain(VALUE);
    await instance.call("DELETE", `/sandboxes/${id}`);
    await instance.call("DELETE", `/pools/${pool.pool_id}`);
  });
});
