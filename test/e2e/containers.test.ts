import Docker from "dockerode";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { containersOf } from "../../src/dev/docker-cli.ts";
import { Instance, sleep } from "./instance.ts";
import { killWorker } from "./leftovers.ts";
import { localContainers } from "./local-containers.ts";
import { RUNTIMES } from "./runtimes.ts";
import { TUNNEL_APP } from "./tunnel-app.ts";

/** How long states may stay untrue. */
const TRUE_AGAIN_MS = 15_000;

interface Problem {
  code: string;
  errors?: { path: string; message: string }[];
}

describe.skipIf(!RUNTIMES.includes("cloudflare"))("sandboxes on Cloudflare Containers", () => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await Instance.start("cloudflare");
  });
  afterAll(() => instance?.remove());

  const tryCreate = async (create: object) => {
    const response = await instance.fetch("/sandboxes", { method: "POST", body: JSON.stringify(create) });
    const problem = (await response.json()) as Problem;
    return [response.status, problem.code, problem.errors?.map(({ path }) => path)];
  };

  it("start from the image of the deployment, which has python, node, git and perl", async () => {
    const id = await instance.create();
    expect(await instance.sandbox(id)).toMatchObject({ image: "base", backend: "cloudflare" });
    const script = "python3 -c 'print(6 * 7)'; node -e 'console.log(6 * 7)'; git --version; perl -e 'print 6 * 7'";
    const { stdout } = await instance.exec(id, ["sh", "-c", script]);
    expect(stdout).toMatch(/^42\n42\ngit version .*\n42$/);
    await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("have variables of their own, which their agent does not", async () => {
    const env = { PATH: "/nowhere", PERL5OPT: "-Mno::such::module", LD_PRELOAD: "", SANDBAR_AGENT_TOKEN: "mine" };
    const id = await instance.create({ env });
    const { stdout } = await instance.exec(id, ["/usr/bin/env"], { env: { OWN: "1" } });
    expect(stdout.split("\n")).toEqual(
      expect.arrayContaining(["PATH=/nowhere", "PERL5OPT=-Mno::such::module", "SANDBAR_AGENT_TOKEN=mine", "OWN=1"]),
    );
    expect(await instance.exec(id, ["true"])).toMatchObject({ returncode: 127 });
    await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("list the images of the deployment", async () => {
    expect(await instance.call("GET", "/images?kind=deployed")).toEqual({
      data: [{ kind: "deployed", backend: "cloudflare", name: "base" }],
    });
    expect((await instance.fetch("/images?kind=other")).status).toBe(400);
  });

  it.each([
    ["gpu", { gpu: "T4" }],
    ["unencrypted_ports", { unencrypted_ports: [8000] }],
    ["cpu", { cpu: 4.5 }],
    ["memory", { memory: 12_289 }],
    ["image", { image: "python:3.12-slim" }],
    ["region", { region: "moon" }],
    ["encrypted_ports", { encrypted_ports: [39_717] }],
    ["outbound_cidr_allowlist", { outbound_cidr_allowlist: ["192.0.2.0/24"] }],
    ["outbound_domain_allowlist", { outbound_domain_allowlist: ["example.com"] }],
  ])("refuse %s that cannot be had, naming the field", async (path, create) => {
    expect(await tryCreate(create)).toEqual([422, "unsupported_by_backend", [path]]);
  });

  it("take sizes and regions that there are, and tell them again", async () => {
    const create = { cpu: 4, memory: 12_288, region: "weur", block_network: true };
    const id = await instance.create(create);
    expect(await instance.sandbox(id)).toMatchObject(create);
    await instance.until(id, ["ready"]);
    await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("are cut off from every network when asked, and answer on their ports all the same", async () => {
    const [open, blocked] = await Promise.all([
      instance.create({ encrypted_ports: [8000] }),
      instance.create({ encrypted_ports: [8000], block_network: true }),
    ]);
    // Another container on the same bridge is what there is to be reached here.
    const [address] = (await instance.exec(open, ["sh", "-c", "hostname -I"])).stdout.split(" ");
    await instance.exec(open, ["python3", "-m", "http.server", "8000"], {}, 0);
    const reach = `import socket; socket.create_connection(("${address}", 8000), 3); print("reached")`;
    const third = await instance.create();
    await expect
      .poll(async () => (await instance.exec(third, ["python3", "-c", reach])).stdout, { timeout: 10_000 })
      .toBe("reached\n");
    expect(await instance.exec(blocked, ["python3", "-c", reach])).toMatchObject({ returncode: 1, stdout: "" });
    await instance.exec(blocked, ["python3", "-m", "http.server", "8000", "--directory", "/etc"], {}, 0);
    const url = `${instance.url}/debian_version`;
    const host = `8000-${blocked}.localhost`;
    await expect.poll(() => statusOf(url, host), { timeout: 10_000 }).toBe(200);
    for (const id of [open, blocked, third]) await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("keep the network that they start with, but not who may come to their ports", async () => {
    const id = await instance.create({ outbound_cidr_allowlist: [], inbound_cidr_allowlist: [] });
    const patch = async (fields: object) => {
      const response = await instance.fetch(`/sandboxes/${id}`, { method: "PATCH", body: JSON.stringify(fields) });
      const { errors, ...sandbox } = (await response.json()) as Problem & Record<string, unknown>;
      return { status: response.status, paths: errors?.map(({ path }) => path), sandbox };
    };
    for (const state of ["created", "ready"]) {
      if (state === "ready") await instance.until(id, ["ready"]);
      const refused = await patch({ outbound_cidr_allowlist: null, inbound_cidr_allowlist: null, tags: { a: "1" } });
      expect(refused, state).toMatchObject({ status: 422, paths: ["outbound_cidr_allowlist"] });
      expect(await instance.sandbox(id)).toMatchObject({
        outbound_cidr_allowlist: [],
        inbound_cidr_allowlist: [],
        tags: {},
      });
    }
    const inbound = ["192.0.2.0/24"];
    const changed = await patch({ inbound_cidr_allowlist: inbound, block_network: true });
    expect(changed).toMatchObject({ status: 200, sandbox: { inbound_cidr_allowlist: inbound, block_network: true } });
    await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("keep a snapshot to their own backend, which is chosen by it", async () => {
    const id = await instance.create();
    await instance.exec(id, ["sh", "-c", "echo kept > /root/kept"]);
    const image = await instance.call<{ image_id: string }>("POST", `/sandboxes/${id}/snapshot`, { name: "mine" });
    expect(image).toMatchObject({ kind: "snapshot", backend: "cloudflare", name: "mine", sandbox_id: id });
    expect(await tryCreate({ image: image.image_id, backend: "docker" })).toEqual([409, "image_elsewhere", undefined]);
    const copy = await instance.create({ image: image.image_id });
    expect(await instance.exec(copy, ["cat", "/root/kept"])).toMatchObject({ stdout: "kept\n" });
    // Started by the agent that the first one was started by: nothing of it is in the snapshot.
    expect(await instance.exec(copy, ["sh", "-c", "ls -A /tmp /run"])).toMatchObject({ returncode: 0 });
    const again = await instance.call<{ image_id: string }>("POST", `/sandboxes/${copy}/snapshot`);
    const grandchild = await instance.create({ image: again.image_id, backend: "cloudflare" });
    expect(await instance.exec(grandchild, ["cat", "/root/kept"])).toMatchObject({ stdout: "kept\n" });
    for (const one of [id, copy, grandchild]) await instance.call("DELETE", `/sandboxes/${one}`);
  });

  it("run beside those of a host, one deployment for both", async () => {
    const hosted = await instance.create({ backend: "docker" });
    expect(await instance.sandbox(hosted)).toMatchObject({ backend: "docker", image: "host" });
    expect(await instance.exec(hosted, ["echo", "hosted"])).toMatchObject({ stdout: "hosted\n" });
    expect(await tryCreate({ backend: "docker", region: "weur" })).toEqual([422, "unsupported_by_backend", ["region"]]);
    await instance.call("DELETE", `/sandboxes/${hosted}`);
  });

  it("make the workdir, probe a port and a command, and wait for them", async () => {
    const server = ["sh", "-c", "sleep 1; exec python3 -m http.server 8000"];
    const id = await instance.create({
      entrypoint: server,
      workdir: "/made/for/it",
      readiness_probe: { tcp: { port: 8000 } },
    });
    const ready = await instance.until(id, ["ready"]);
    const { started_at, ready_at } = ready as unknown as Record<string, string>;
    expect(Date.parse(ready_at!) - Date.parse(started_at!)).toBeGreaterThan(800);
    expect(await instance.exec(id, ["pwd"])).toMatchObject({ stdout: "/made/for/it\n" });
    const probed = await instance.create({ readiness_probe: { exec: { command: ["test", "-e", "/tmp/go"] } } });
    await instance.exec(probed, ["true"]);
    expect(await instance.sandbox(probed)).toMatchObject({ state: "started" });
    await instance.exec(probed, ["touch", "/tmp/go"]);
    await instance.until(probed, ["ready"]);
    for (const one of [id, probed]) await instance.call("DELETE", `/sandboxes/${one}`);
  });

  it("fail to start with the reason, and soon", async () => {
    const began = Date.now();
    const workdir = await instance.create({ workdir: "/etc/passwd/below" });
    const ended = await instance.until(workdir, ["terminated"]);
    expect(ended).toMatchObject({ finish_reason: "start_failed" });
    expect(ended.error).toContain("workdir /etc/passwd/below: not a directory");
    const entrypoint = await instance.create({ entrypoint: ["/no/such/program"] });
    expect((await instance.until(entrypoint, ["terminated"])).error).toContain("/no/such/program: no such file");
    expect(Date.now() - began).toBeLessThan(15_000);
  });

  it("run no shell that was not asked for", async () => {
    const id = await instance.create();
    const put = await instance.fetch(`/sandboxes/${id}/files?path=/bin/plain&mode=755`, {
      method: "PUT",
      body: "echo ran\n",
      headers: { "content-type": "application/octet-stream" },
    });
    expect(put.status).toBe(204);
    expect(await instance.exec(id, ["plain"])).toMatchObject({ returncode: 126, stderr: "plain: exec format error\n" });
    await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("are kept by an open socket through a tunnel, and by nothing when it is closed", async () => {
    const id = await instance.create({ encrypted_ports: [9000], idle_timeout: 3 });
    await instance.exec(id, ["true"]);
    await instance.fetch(`/sandboxes/${id}/files?path=/srv/echo.py`, {
      method: "PUT",
      body: TUNNEL_APP,
      headers: { "content-type": "application/octet-stream" },
    });
    // Not an exec: that alone would keep it.
    await instance.exec(id, ["sh", "-c", "setsid python3 /srv/echo.py 9000 >/dev/null 2>&1 &"]);
    const open = () => {
      const headers = { host: `9000-${id}.localhost` };
      const socket = new WebSocket(`ws://127.0.0.1:${instance.port}/`, { headers });
      return new Promise<WebSocket>((done, fail) => socket.once("open", () => done(socket)).once("error", fail));
    };
    await expect
      .poll(
        () =>
          open().then(
            (socket) => (socket.terminate(), true),
            () => false,
          ),
        { timeout: 5000 },
      )
      .toBe(true);
    const socket = await open();
    await sleep(9000);
    expect(await instance.sandbox(id)).toMatchObject({ state: "ready" });
    const echoed = new Promise((done) => socket.once("message", (data) => done(String(data))));
    socket.send("still here");
    expect(await echoed).toBe("still here");
    socket.terminate();
    expect(await instance.until(id, ["terminated"], 20_000)).toMatchObject({ finish_reason: "idle_timeout" });
  });

  it("end with their container, within 15 s, and leave none", async () => {
    const id = await instance.create({ timeout: 600 });
    const running = await instance.exec(id, ["sleep", "600"], {}, 0);
    const [container] = await localContainers(instance);
    await new Docker().getContainer(container!.Id).remove({ force: true });
    const ended = await instance.until(id, ["terminated"], TRUE_AGAIN_MS);
    expect(ended).toMatchObject({ finish_reason: "host_lost" });
    expect(await instance.call("GET", `/sandboxes/${id}/processes/${running.process_id}`)).toMatchObject({
      returncode: 137,
      finish_reason: "host_lost",
    });
  });

  it("are gone at once when they are terminated, also during the start", async () => {
    const before = (await localContainers(instance)).length;
    const ids = await Promise.all(Array.from({ length: 3 }, () => instance.create()));
    for (const id of ids) await instance.call("DELETE", `/sandboxes/${id}`);
    for (const id of ids) expect(await instance.sandbox(id)).toMatchObject({ finish_reason: "terminated" });
    await expect.poll(async () => (await localContainers(instance)).length, { timeout: TRUE_AGAIN_MS }).toBe(before);
  });

  it("are all gone when the instance is ended, and it is known at the next start", async () => {
    const id = await instance.create({ timeout: 600 });
    await instance.until(id, ["ready"]);
    expect((await localContainers(instance)).length).toBeGreaterThan(0);
    await instance.interrupt();
    expect(await containersOf(instance.stateDirectory)).toEqual([]);
    await instance.start();
    expect(await instance.until(id, ["terminated"], TRUE_AGAIN_MS)).toMatchObject({ finish_reason: "host_lost" });
  });

  it("lose nothing when the Worker is killed", async () => {
    const id = await instance.create({ timeout: 600, entrypoint: ["sleep", "600"] });
    const counted = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i + 1)); sleep 0.1; done";
    const { process_id } = await instance.exec(id, ["sh", "-c", counted], {}, 0);
    killWorker(instance);
    await instance.untilAnswers(30_000);
    const wait = `/sandboxes/${id}/processes/${process_id}?wait=20`;
    expect(await instance.call("GET", wait)).toMatchObject({ returncode: 0, finish_reason: "exited" });
    const output = await instance.fetch(`/sandboxes/${id}/processes/${process_id}/stdout`);
    expect(await output.text()).toBe(Array.from({ length: 60 }, (_, index) => `${index}\n`).join(""));
    expect(await instance.call("GET", `/sandboxes/${id}/processes/main`)).toMatchObject({ returncode: null });
    await instance.call("DELETE", `/sandboxes/${id}`);
  });
});

/** Browsers and curl resolve names below localhost by themselves, Node does not. */
async function statusOf(url: string, host: string): Promise<number | undefined> {
  const { get } = await import("node:http");
  return new Promise((done) => {
    get(url, { headers: { host } }, (response) => {
      response.resume();
      done(response.statusCode);
    }).on("error", () => done(undefined));
  });
}
