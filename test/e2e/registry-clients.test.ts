import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { snapshot } from "./image-view.ts";
import { DEV_KEY, Instance } from "./instance.ts";
import { Clients } from "./registry-command-lines.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";

const BASE = "debian:bookworm-slim";
const run = promisify(execFile);

const hasSkopeo = await run("skopeo", ["--version"]).then(
  () => true,
  () => false,
);
const hasDocker = HOST_RUNTIMES.includes("docker");
if (!hasSkopeo) console.warn("The registry is not tried with skopeo: there is none (apt-get install skopeo).");
if (!hasDocker) console.warn("The registry is not tried with docker: no engine answers.");

const newKey = async (instance: Instance, environment: string, scopes: string[]) =>
  (await instance.call<{ key: string }>("POST", "/keys", { name: "clients", environment, scopes })).key;

const statusOf = async (instance: Instance, image: string, key = DEV_KEY) => {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const answer = await fetch(`${instance.url}/v1/sandboxes`, {
    method: "POST",
    headers,
    body: JSON.stringify({ image }),
  });
  return [answer.status, ((await answer.json()) as { code?: string }).code];
};

/** How a sandbox of this image ends. */
async function endOf(instance: Instance, image: string, key: string): Promise<unknown> {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const init = { method: "POST", headers, body: JSON.stringify({ image, timeout: 30 }) };
  const created = (await (await fetch(`${instance.url}/v1/sandboxes`, init)).json()) as { sandbox_id: string };
  const path = `/v1/sandboxes/${created.sandbox_id}/wait?until=ended&timeout=60`;
  return ((await (await fetch(instance.url + path, { headers })).json()) as { finish_reason?: string }).finish_reason;
}

describe.skipIf(!hasDocker)("the registry, to docker", () => {
  let instance: Instance;
  let clients: Clients;
  const tags: string[] = [];
  beforeAll(async () => {
    instance = await Instance.start("docker");
    clients = new Clients(instance);
    await clients.login("main", DEV_KEY);
  });
  afterAll(async () => {
    await run("docker", ["rmi", "-f", ...tags]).catch(() => undefined);
    clients?.remove();
    await instance?.remove();
  });

  /** Builds an image over the base that says something. */
  const build = async (text: string, name: string) => {
    const folder = mkdtempSync(join(clients.directory, "build-"));
    const dockerfile = `FROM ${BASE}\nRUN echo ${text} > /said\nENV FROM=image\nWORKDIR /srv\nCMD ["false"]\n`;
    writeFileSync(`${folder}/Dockerfile`, dockerfile);
    await clients.dockerAs("main", "build", "-q", "-t", clients.at(name), folder);
    tags.push(clients.at(name));
  };
  const push = async (name: string) => {
    const output = await clients.dockerAs("main", "push", clients.at(name));
    return /digest: (sha256:[0-9a-f]{64})/.exec(output)![1]!;
  };
  const says = async (image: string) => {
    const sandboxId = await instance.create({ image });
    const { stdout } = await instance.exec(sandboxId, ["sh", "-c", "cat /said; echo $FROM; pwd"]);
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    return stdout;
  };

  it("takes a login with a key, and none with another", async () => {
    await expect(clients.login("nobody", `${DEV_KEY}-not`)).rejects.toThrow(/401|unauthorized/i);
  });

  it("takes images, whose sandboxes start by tag, digest and host name, and a tag that moves", async () => {
    const name = "main/team/app:1";
    await build("one", name);
    const first = await push(name);
    const { data } = await instance.call<{ data: object[] }>("GET", "/images?kind=pushed");
    expect(data).toEqual([
      expect.objectContaining({ kind: "pushed", backend: "docker", reference: name, digest: first }),
    ]);
    expect(await says(name)).toBe("one\nimage\n/srv\n");
    // As it was pushed, where the API is asked under the same name.
    const headers = { authorization: `Bearer ${DEV_KEY}`, "content-type": "application/json" };
    const init = { method: "POST", headers, body: JSON.stringify({ image: clients.at(name), name: "named" }) };
    const named = await fetch(`http://localhost:${instance.port}/v1/sandboxes`, init);
    expect(await named.json()).toMatchObject({ image: name });
    await build("two", name);
    const second = await push(name);
    expect(second).not.toBe(first);
    expect(await says(name)).toBe("two\nimage\n/srv\n");
    expect(await says(`main/team/app@${first}`)).toBe("one\nimage\n/srv\n");
    const pull = async (reference: string) => {
      await clients.dockerAs("main", "pull", "-q", clients.at(reference));
      tags.push(clients.at(reference));
      return clients.dockerAs("main", "run", "--rm", "--network=none", clients.at(reference), "cat", "/said");
    };
    await clients.dockerAs("main", "rmi", "-f", clients.at(name));
    expect(await pull(`main/team/app@${first}`)).toBe("one");
    expect(await pull(name)).toBe("two");
    expect(await statusOf(instance, "main/team/app:none")).toEqual([404, "image_not_found"]);
  });

  it("gives a snapshot to docker, which has no way to write among them", async () => {
    const sandboxId = await instance.create({ env: { SECRET: "hidden" } });
    await instance.exec(sandboxId, ["sh", "-c", "echo kept > /said"]);
    const { image_id } = await snapshot(instance, sandboxId);
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    const name = `main/snapshots:${image_id}`;
    await clients.dockerAs("main", "pull", "-q", clients.at(name));
    tags.push(clients.at(name));
    const inside = ["run", "--rm", "--network=none", clients.at(name), "sh", "-c", "cat /said; env"];
    const said = await clients.dockerAs("main", ...inside);
    expect(said).toMatch(/^kept\n/);
    expect(said).not.toContain("SECRET");
    await expect(push(name)).rejects.toThrow(/denied/i);
  });

  it("shows nothing to another environment, and lets a key that reads write nothing", async () => {
    const name = "main/private:1";
    await build("private", name);
    await push(name);
    const foreign = await newKey(instance, "other", ["read", "write"]);
    await clients.login("other", foreign);
    for (const reference of [name, "main/nothing-like-it:1"]) {
      await expect(clients.dockerAs("other", "pull", clients.at(reference))).rejects.toThrow(
        /not found|unknown|denied|not exist/i,
      );
    }
    await expect(clients.dockerAs("other", "push", clients.at(name))).rejects.toThrow(/unknown|denied|not found/i);
    // A main sandbox brings the image to the engine; no name of it there is of use to the other environment.
    expect(await says(name)).toContain("private");
    // What this test's own docker has under other names is for everybody on this machine.
    await run("docker", ["rmi", "-f", ...tags.splice(0)]).catch(() => undefined);
    const kept = (await run("docker", ["images", "--format", "{{.Repository}}:{{.Tag}}"])).stdout.split("\n");
    const { hostId } = JSON.parse(readFileSync(`${instance.stateDirectory}/state.json`, "utf8")) as { hostId: string };
    const names = kept.filter((one) => one.startsWith(`sandbar/${hostId}:`));
    expect(names.length).toBeGreaterThan(0);
    for (const image of [...names, name, `localhost:${instance.port}/${name}`]) {
      expect([image, await endOf(instance, image, foreign)]).toEqual([image, "start_failed"]);
    }
    const reader = await newKey(instance, "main", ["read"]);
    await clients.login("reader", reader);
    await clients.dockerAs("reader", "pull", clients.at(name));
    await build("changed", "main/private:2");
    await expect(clients.dockerAs("reader", "push", clients.at("main/private:2"))).rejects.toThrow(/denied/i);
    const list = await instance.call<{ data: { reference: string }[] }>("GET", "/images?kind=pushed");
    expect(list.data.map(({ reference }) => reference)).not.toContain("main/private:2");
  });
});

describe.skipIf(!hasSkopeo).each(HOST_RUNTIMES)("the registry of a host on %s, to skopeo", (runtime) => {
  let instance: Instance;
  let clients: Clients;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
    clients = new Clients(instance);
  });
  afterAll(async () => {
    clients?.remove();
    await instance?.remove();
  });

  it("gives a snapshot and takes it back under another name, which starts", async () => {
    const sandboxId = await instance.create({});
    await instance.exec(sandboxId, ["sh", "-c", "mkdir /srv/kept && echo kept > /srv/kept/file"]);
    const { image_id, digest } = await snapshot(instance, sandboxId);
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    const source = `docker://${clients.at(`main/snapshots:${image_id}`)}`;
    const folder = `oci:${clients.directory}/oci:kept`;
    const target = `docker://${clients.at("main/copy:1")}`;
    const from = ["--src-tls-verify=false", `--src-creds=x:${DEV_KEY}`];
    const to = ["--dest-tls-verify=false", `--dest-creds=x:${DEV_KEY}`];
    const at = ["--tls-verify=false", `--creds=x:${DEV_KEY}`];
    await clients.skopeo("copy", ...from, source, folder);
    const index = JSON.parse(readFileSync(`${clients.directory}/oci/index.json`, "utf8")) as { manifests: object[] };
    expect(index.manifests).toHaveLength(1);
    await clients.skopeo("copy", ...to, folder, target);
    const tagsOf = async () => JSON.parse(await clients.skopeo("list-tags", ...at, target.slice(0, -2))) as object;
    expect(await tagsOf()).toMatchObject({ Tags: ["1"] });
    const inspected = JSON.parse(await clients.skopeo("inspect", ...at, target)) as {
      Digest: string;
      Layers: string[];
    };
    expect(inspected.Layers.length).toBeGreaterThan(0);
    if (runtime === "embedded") expect(inspected.Digest).toBe(digest);

    const copy = await instance.create({ image: "main/copy:1" });
    expect(await instance.exec(copy, ["cat", "/srv/kept/file"])).toMatchObject({ stdout: "kept\n" });
    await clients.skopeo("delete", ...at, target);
    expect(await statusOf(instance, "main/copy:1")).toEqual([404, "image_not_found"]);
    await expect(clients.skopeo("inspect", ...at, target)).rejects.toThrow(/unknown/i);
    expect(await instance.exec(copy, ["cat", "/srv/kept/file"])).toMatchObject({ stdout: "kept\n" });
    await instance.call("DELETE", `/sandboxes/${copy}`);
  });

  it("gives nothing to another environment", async () => {
    const sandboxId = await instance.create({});
    const { image_id } = await snapshot(instance, sandboxId);
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    const key = await newKey(instance, "other", ["read", "write"]);
    const at = ["--tls-verify=false", `--creds=x:${key}`];
    const source = `docker://${clients.at(`main/snapshots:${image_id}`)}`;
    await expect(clients.skopeo("inspect", ...at, source)).rejects.toThrow(/unknown|denied/i);
    expect(await statusOf(instance, image_id, key)).toEqual([404, "image_not_found"]);
  });
});
