import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import { DockerHost, makeImage, noEngine, removeImages } from "./docker-host.ts";
import { text, until } from "./signed-host.ts";
import { inspectWarm, WarmHost, warmSpec } from "./warm-host.ts";

const ENV = { TOKEN: "a 'secret'", LANG: "C.UTF-8", PATH: "/opt/bin:/usr/bin:/bin", TERM: "dumb", HOSTNAME_: "x" };
/** All that a process can tell of where it is, without the names that each container has of its own. */
const LOOK = `
env | sort
id; pwd; hostname
cat /proc/self/limits /proc/self/oom_score_adj
grep -E '^(Cap|NoNewPrivs|Seccomp|Groups)' /proc/self/status
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/pids/pids.max 2>&1
cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max 2>&1
ls -la / /dev /.sandbar | sed 's/[A-Z][a-z][a-z] .[0-9] ..:..//'
cut -d' ' -f4- /proc/self/mountinfo | sort
tr '\\0' ' ' </proc/1/cmdline
`;
const anonymous = (words: string) =>
  words
    .replace(/[0-9a-f]{64}/g, "CONTAINER")
    .replace(/\b[0-9a-f]{12}\b/g, "HOST")
    .replace(/(sb-[a-z0-9]{22}-\d+|wm-[a-z0-9]{22})/g, "NAME")
    .replace(/overlay2\/l\/[A-Z0-9]{26}/g, "LAYER")
    .replace(/master:\d+/g, "master:N")
    .replace(/^(d\S+ +)\d+( +\w+ +\w+ +)\d+/gm, "$1N$2SIZE");

describe.skipIf(noEngine !== undefined)("warm containers on docker", { timeout: 60_000 }, () => {
  let host: WarmHost;
  const call = (method: string, target: string) => host.signed.call(method, target);
  const status = async (box: string) => (await call("GET", box)).json;
  const run = async (box: string, script: string, rest: object = {}) => {
    const { output, returncode } = await host.signed.exec(box, ["sh", "-c", script], rest);
    return { stdout: text(output?.stdout), stderr: text(output?.stderr), returncode };
  };
  const mainOutput = async (box: string) => (await call("GET", `${box}/processes/main/stdout`)).body.toString();

  beforeAll(async () => {
    host = await WarmHost.start();
  });
  afterAll(async () => expect(await host.close()).toEqual([]));

  it("says that it can", async () => {
    expect((await call("GET", "/v1/info")).json).toMatchObject({ capabilities: { warm_pools: true } });
  });

  it("idle without anything of a user's, and become a sandbox's in a moment", async () => {
    const cold = await host.create();
    const warmId = await host.ready();
    expect(inspectWarm(warmId, "{{.State.Running}}")).toBe("true");
    expect(host.signed.daemon.containers.list().map(({ sandbox_id }) => sandbox_id)).not.toContain(warmId);
    const warm = await host.create({ warm: warmId, entrypoint: ["sh", "-c", "echo up; exec sleep 600"] });
    expect([warm.status, warm.json]).toEqual([200, { kind: "launched", published_ports: {} }]);
    expect(host.stateOf(warmId)).toBeUndefined();
    expect(await host.isIn(warm.box, warmId)).toBe(true);
    const idle = await host.ready().then((id) => host.create({ warm: id }));
    console.log(
      `start: cold ${cold.ms.toFixed(0)} ms, warm ${idle.ms.toFixed(1)} ms, with an entrypoint ${warm.ms.toFixed(1)} ms`,
    );
    expect(warm.ms).toBeLessThan(cold.ms / 4);
    expect(idle.ms).toBeLessThan(cold.ms / 4);
    await until(async () => (await mainOutput(warm.box)) === "up\n");
    for (const { box } of [cold, warm, idle]) {
      expect((await call("DELETE", box)).status).toBe(204);
      expect(await status(box)).toEqual({ kind: "gone" });
    }
    expect(inspectWarm(warmId, "{{.Id}}")).toBeUndefined();
  });

  it.each([
    ["a process", {}],
    ["another user's process", { user: "nobody" }],
    ["a process with variables of its own", { env: { TOKEN: "other", PATH: "/bin:/usr/bin" }, workdir: "/tmp" }],
    ["a process on a terminal", { pty: { rows: 24, cols: 80 } }],
    ["another user's process on a terminal", { user: "games", pty: { rows: 24, cols: 80 } }],
  ])("show %s what a cold one shows", async (_, rest) => {
    const made = { cpu: 0.5, memory: 128, workdir: "/work/deep" };
    const warmId = await host.ready(made);
    const boxes = [await host.create({ ...made, env: ENV }), await host.create({ ...made, env: ENV, warm: warmId })];
    expect(await host.isIn(boxes[1]!.box, warmId)).toBe(true);
    const [cold, warm] = await Promise.all(boxes.map(({ box }) => run(box, LOOK, rest)));
    expect(cold!.stdout).toContain("LANG=C.UTF-8");
    expect(anonymous(warm!.stdout)).toBe(anonymous(cold!.stdout));
    expect(warm).toMatchObject({ stderr: cold!.stderr, returncode: 0 });
    for (const { box } of boxes) await call("DELETE", box);
  });

  it("show what a cold one shows of an image with a user, variables and a folder of its own", async () => {
    const changes = ["USER games", "ENV LC_ALL=C OLDPWD=/x TOKEN=images OWN=1", "WORKDIR /var/lib"];
    const image = makeImage("sandbar-test-warm-user", ...changes);
    const warmId = await host.ready({ image });
    const spec = { image, env: ENV, entrypoint: ["sh", "-c", `${LOOK}exec sleep 600`] };
    const boxes = [await host.create(spec), await host.create({ ...spec, warm: warmId })].map(({ box }) => box);
    expect(await host.isIn(boxes[1]!, warmId)).toBe(true);
    for (const rest of [{}, { user: "root" }, { pty: { rows: 24, cols: 80 } }]) {
      const [cold, warm] = await Promise.all(boxes.map((box) => run(box, LOOK, rest)));
      expect(cold!.stdout).toMatch(/OWN=1\r?\n/);
      expect(anonymous(warm!.stdout)).toBe(anonymous(cold!.stdout));
    }
    const [cold, warm] = await Promise.all(boxes.map(mainOutput));
    expect(anonymous(warm!)).toBe(anonymous(cold!));
    for (const box of boxes) await call("DELETE", box);
    removeImages(image);
  });

  it("take the place of a sandbox's earlier start", async () => {
    const [first, second] = [await host.ready(), await host.ready()];
    const { spec, box } = await host.create({ warm: first });
    const { json } = await host.create({ ...spec, generation: 2, warm: second });
    expect(json["kind"]).toBe("launched");
    expect(await host.isIn(box, second)).toBe(true);
    expect(inspectWarm(first, "{{.Id}}")).toBeUndefined();
    expect(await status(box)).toMatchObject({ kind: "running", generation: 2 });
    await call("DELETE", `${box}?generation=1`);
    expect(await status(box)).toMatchObject({ kind: "running" });
    await call("DELETE", box);
    expect(inspectWarm(second, "{{.Id}}")).toBeUndefined();
  });

  it.each([
    ["an entrypoint", {}],
    ["an entrypoint on a terminal", { pty: { rows: 24, cols: 80 } }],
  ])("run %s as a cold one does, to its end", async (_, rest) => {
    const made = { memory: 128, workdir: "/srv" };
    const entrypoint = ["sh", "-c", `${LOOK}\nstty size 2>&1; exit 7`];
    const warmId = await host.ready(made);
    const spec = { ...made, ...rest, entrypoint, env: ENV };
    const boxes = [await host.create(spec), await host.create({ ...spec, warm: warmId })].map(({ box }) => box);
    for (const box of boxes) {
      await until(async () => (await status(box))["kind"] === "exited");
      expect(await status(box)).toMatchObject({ exit: { returncode: 7, oom: false, deadline: false } });
      expect((await call("GET", `${box}/processes/main?wait_ms=5000`)).json).toMatchObject({ returncode: 7 });
    }
    const [cold, warm] = await Promise.all(boxes.map(mainOutput));
    expect(cold).toContain("LANG=C.UTF-8");
    expect(anonymous(warm!)).toBe(anonymous(cold!));
    await until(() => inspectWarm(warmId, "{{.Id}}") === undefined);
    for (const box of boxes) await call("DELETE", box);
  });

  it("refuse an entrypoint that is not there, with the words of a cold one", async () => {
    const warmId = await host.ready();
    const spec = { entrypoint: ["no-such-program"] };
    const [cold, warm] = [await host.create(spec), await host.create({ ...spec, warm: warmId })];
    expect(warm.json).toMatchObject({ kind: "failed" });
    expect(warm.json).toEqual(cold.json);
    expect(inspectWarm(warmId, "{{.Id}}")).toBeUndefined();
  });

  it("end at their deadline, counted from the create, and out of memory, as others do", async () => {
    const [timed, small] = [await host.ready(), await host.ready({ memory: 32 })];
    const one = await host.create({ warm: timed, lifetime_ms: 700 });
    const eater = ["sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo $x"];
    const other = await host.create({ warm: small, memory: 32, entrypoint: eater });
    expect(await status(one.box)).toMatchObject({ kind: "running" });
    await until(async () => (await status(one.box))["kind"] === "exited");
    expect(await status(one.box)).toMatchObject({ exit: { returncode: 124, deadline: true } });
    await until(async () => (await status(other.box))["kind"] === "exited", 20_000);
    expect(await status(other.box)).toMatchObject({ exit: { returncode: 137, oom: true } });
    await until(() => [timed, small].every((id) => inspectWarm(id, "{{.Id}}") === undefined));
    for (const { box } of [one, other]) await call("DELETE", box);
  });

  it("are kept as snapshots, asked for and at the end, without the sandbox's variables", async () => {
    const [asked, atEnd] = [newId("image"), newId("image")];
    const warmId = await host.ready();
    const { box } = await host.create({ warm: warmId, env: ENV, lifetime_ms: 4_000, end_image: atEnd });
    await run(box, "echo kept > /kept");
    const taken = await host.signed.send("POST", `${box}/snapshots/${asked}?wait_ms=20000`, {
      generation: 1,
      stop: false,
    });
    expect(taken.json).toMatchObject({ kind: "done" });
    await until(async () => (await status(box))["kind"] === "exited", 10_000);
    await call("DELETE", box);
    for (const image of [asked, atEnd]) {
      const name = `sandbar/${host.docker.hostId}:${image}`;
      const labels = execFileSync("docker", ["image", "inspect", name, "-f", "{{json .Config.Labels}}"]).toString();
      expect(JSON.parse(labels)).toEqual({ "dev.sandbar.snapshot": image });
      // A snapshot is an image for warm containers, too.
      const next = await host.create({ image, warm: await host.ready({ image }) });
      expect((await run(next.box, "cat /kept; env")).stdout).toMatch(/^kept\n(?![^]*TOKEN)/);
      await call("DELETE", next.box);
      await call("DELETE", `/v1/images/${image}`);
    }
  });

  it("are nobody's but the first one's who asks", async () => {
    const warmId = await host.ready();
    const both = await Promise.all([1, 2].map(() => host.create({ warm: warmId })));
    expect(both.map(({ json }) => json["kind"])).toEqual(["launched", "launched"]);
    const isIn = await Promise.all(both.map(({ box }) => host.isIn(box, warmId)));
    expect(isIn.toSorted()).toEqual([false, true]);
    const late = await host.create({ warm: warmId });
    expect(await host.isIn(late.box, warmId)).toBe(false);
    // Ordered once more by who has not heard of it yet, it is not made again.
    host.shelf.converge([warmSpec({ warm_id: warmId })]);
    expect(host.stateOf(warmId)).toBeUndefined();
    host.shelf.converge([]);
    host.shelf.converge([warmSpec({ warm_id: warmId })]);
    await host.until(warmId, "failed");
    const winner = both[isIn.indexOf(true)]!.box;
    expect((await run(winner, "echo mine")).stdout).toBe("mine\n");
    for (const { box } of [...both, late]) await call("DELETE", box);
  });

  it.each([
    ["environment", { environment: "other" }],
    ["cpu", { cpu: 0.5 }],
    ["memory", { memory: 256 }],
    ["workdir", { workdir: "/tmp" }],
    ["published ports", { raw_ports: [8000] }],
  ])("that are of another %s are not taken, and go", async (_, spec) => {
    const warmId = await host.ready({ memory: 128 });
    const { box, json } = await host.create({ memory: 128, ...spec, warm: warmId });
    expect(json["kind"]).toBe("launched");
    expect(inspectWarm(warmId, "{{.Id}}")).toBeUndefined();
    expect((await run(box, "echo cold")).stdout).toBe("cold\n");
    await call("DELETE", box);
  });

  it("of another image are not taken", async () => {
    const image = makeImage("sandbar-test-warm", "ENV WHOSE=other");
    const warmId = await host.ready();
    const { box } = await host.create({ image, warm: warmId });
    expect((await run(box, "echo $WHOSE")).stdout).toBe("other\n");
    await call("DELETE", box);
    removeImages(image);
  });

  it("that were killed are told of, and are no sandbox's", async () => {
    const [seen, unseen] = [await host.ready(), await host.ready()];
    execFileSync("docker", ["kill", `sandbar-${unseen}`], { stdio: "pipe" });
    const { box, json } = await host.create({ warm: unseen });
    expect(json["kind"]).toBe("launched");
    expect((await run(box, "echo cold")).stdout).toBe("cold\n");
    execFileSync("docker", ["kill", `sandbar-${seen}`], { stdio: "pipe" });
    await host.until(seen, "failed");
    expect(host.shelf.list()).toContainEqual({ warm_id: seen, state: "failed", error: "The container has ended." });
    await until(() => [seen, unseen].every((id) => inspectWarm(id, "{{.Id}}") === undefined));
    await call("DELETE", box);
  });

  it("are waited for when they are just starting", async () => {
    const warmId = host.order();
    await until(() => inspectWarm(warmId, "{{.Id}}") !== undefined);
    const { box } = await host.create({ warm: warmId });
    expect(await host.isIn(box, warmId)).toBe(true);
    await call("DELETE", box);
  });

  it("make room: gone before the other one starts", async () => {
    const [ready, spared] = [await host.ready(), await host.ready()];
    const starting = host.order();
    await until(() => inspectWarm(starting, "{{.Id}}") !== undefined);
    const before = performance.now();
    const { box } = await host.create({ warm: spared, evict: [ready, starting, newId("warm")] });
    expect([ready, starting].map((id) => inspectWarm(id, "{{.Id}}"))).toEqual([undefined, undefined]);
    expect(await host.isIn(box, spared)).toBe(true);
    expect(performance.now() - before).toBeLessThan(10_000);
    await call("DELETE", box);
  });

  it("that cannot start say why, once", async () => {
    const warmId = host.order({ image: "sandbar/none:such" });
    await host.until(warmId, "failed");
    expect(host.shelf.list()).toContainEqual({
      warm_id: warmId,
      state: "failed",
      error: expect.stringContaining("is a snapshot"),
    });
    host.order();
    expect(host.stateOf(warmId)).toBe("failed");
  });

  it("are as many as are ordered, two started at a time", async () => {
    host.shelf.converge([]);
    await until(() => host.docker.left() === "");
    const specs = [1, 2, 3, 4, 5].map(() => warmSpec());
    host.shelf.converge(specs);
    let most = 0;
    await until(() => {
      const { length } = host.shelf.list().filter(({ state }) => state === "ready");
      const made = host.docker.left().split("\n").filter(Boolean).length;
      most = Math.max(most, made - length);
      return length === 5;
    }, 30_000);
    // One that has just become ready may be counted with those that start.
    expect(most).toBeLessThanOrEqual(4);
    host.shelf.converge(specs.slice(0, 2));
    await until(() => host.docker.left().split("\n").length === 2);
    expect(host.shelf.list().map(({ warm_id }) => warm_id)).toEqual(specs.slice(0, 2).map(({ warm_id }) => warm_id));
    host.shelf.converge([]);
    await until(() => host.docker.left() === "");
  });
});

describe.skipIf(noEngine !== undefined)("an image that says that it is a warm container, or is kept at its end", () => {
  it("has no say", async () => {
    const labels = ["warm=../../etc", `end-image=${newId("image")}`, "entrypoint=true"];
    const image = makeImage("sandbar-test-labels", ...labels.map((label) => `LABEL dev.sandbar.${label}`));
    const host = await DockerHost.open();
    const { sandboxId, endImage } = await host.start({ image });
    expect(endImage).toBeUndefined();
    const [found, ...more] = await (await openDockerRuntime({ ...host })).recover();
    expect(more).toEqual([]);
    expect([found!.sandboxId, found!.endImage, found!.main]).toEqual([sandboxId, undefined, undefined]);
    await found!.stop();
    await host.close();
    removeImages(image);
  });
});

describe.skipIf(noEngine !== undefined)("warm containers on an engine that cannot use the launcher", () => {
  it("fail with the reason, and sandboxes start as ever", async () => {
    const host = await WarmHost.start(undefined, { useLauncher: false });
    const { capabilities } = (await host.signed.call("GET", "/v1/info")).json as { capabilities: object };
    expect(capabilities).not.toHaveProperty("warm_pools");
    const warmId = host.order();
    await host.until(warmId, "failed");
    expect(host.shelf.list()[0]!.error).toMatch(/launcher/);
    const { json } = await host.create({ warm: warmId });
    expect(json["kind"]).toBe("launched");
    expect(await host.close()).toEqual([]);
  });
});
