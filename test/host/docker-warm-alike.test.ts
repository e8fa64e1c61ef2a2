import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeImage, noEngine, removeImages } from "./docker-host.ts";
import { until } from "./signed-host.ts";
import { ENV, warmCalls } from "./warm-calls.ts";
import { inspectWarm, WarmHost } from "./warm-host.ts";

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
  const { call, status, run, mainOutput } = warmCalls(() => host);

  beforeAll(async () => {
    host = await WarmHost.start();
  });
  afterAll(async () => expect(await host.close()).toEqual([]));

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
});
