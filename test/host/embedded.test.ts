import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { once } from "node:events";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { openEmbeddedRuntime } from "../../src/host/embedded/runtime.ts";
import { StartFailure, type Container, type Runtime } from "../../src/host/runtime.ts";

const isRoot = process.getuid?.() === 0;
const dataDir = mkdtempSync("/tmp/sandbar-test-");
let runtime: Runtime;
let container: Container;

const specOf = (rest: Partial<StartSpec> = {}): StartSpec => ({
  sandbox_id: newId("sandbox"),
  environment: "main",
  generation: 1,
  image: "host",
  env: {},
  raw_ports: [],
  lifetime_ms: 600_000,
  ...rest,
});

interface Extra {
  env?: Record<string, string>;
  workdir?: string;
  input?: string | Buffer;
}
async function exec(target: Container, command: string[], extra: Extra = {}) {
  const spawned = await target.spawn({
    process_id: newId("process"),
    command,
    env: extra.env ?? {},
    workdir: extra.workdir,
    input: "once",
  });
  const [stdout, stderr] = [spawned.stdout.stream(), spawned.stderr.stream()];
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  stdout.on("data", (chunk: Buffer) => out.push(chunk));
  stderr.on("data", (chunk: Buffer) => err.push(chunk));
  const ends = Promise.all([once(stdout, "end"), once(stderr, "end")]);
  spawned.stdin.end(extra.input);
  const code = await spawned.exited;
  spawned.release();
  // Something in the background may hold them.
  await Promise.race([ends, new Promise((resolve) => setTimeout(resolve, 300))]);
  return {
    code,
    stdout: Buffer.concat(out),
    text: Buffer.concat(out).toString(),
    stderr: Buffer.concat(err).toString(),
  };
}

beforeAll(async () => {
  runtime = await openEmbeddedRuntime({ dataDir });
  container = await runtime.start(specOf({ env: { FROM_SANDBOX: "1" } }));
}, 30_000);
afterAll(async () => {
  for (const left of await runtime.recover()) await left.stop();
  rmSync(dataDir, { recursive: true, force: true });
}, 30_000);

describe("exec", () => {
  test("return codes", async () => {
    expect((await exec(container, ["true"])).code).toBe(0);
    expect((await exec(container, ["sh", "-c", "exit 7"])).code).toBe(7);
    expect((await exec(container, ["sh", "-c", "kill -9 $$"])).code).toBe(137);
    const missing = await exec(container, ["no-such-program"]);
    expect([missing.code, missing.stderr]).toEqual([127, "sandbar: no-such-program: not found\n"]);
    expect((await exec(container, ["cd"])).code).toBe(127);
    const file = await exec(container, ["/etc/passwd"]);
    expect([file.code, file.stderr]).toEqual([126, "sandbar: /etc/passwd: permission denied\n"]);
    const nowhere = await exec(container, ["true"], { workdir: "/nowhere" });
    expect([nowhere.code, nowhere.stderr]).toEqual([
      126,
      "sandbar: cannot enter the working directory /nowhere: no such directory\n",
    ]);
  });

  test("argv, environment and working directory are exact", async () => {
    const words = ["a b", "", "'\"`$HOME\\", "new\nline\n", "ünï ā 漢字 \u0081\u0088", "*", "-n", "\t\r\x01\x7f"];
    const { stdout } = await exec(container, ["printf", "%s\\0", ...words]);
    expect(stdout.toString()).toBe(words.map((word) => `${word}\0`).join(""));
    const env = { ODD: "a'b\n$x `y`", UID: "7", IFS: "x", PWD: "/x", ā_NOT: "1" };
    delete (env as Record<string, string>)["ā_NOT"];
    const shown = await exec(container, ["env", "-0"], { env, workdir: "/tmp" });
    const lines = shown.text.split("\0");
    for (const [name, value] of Object.entries({ ...env, FROM_SANDBOX: "1", HOME: "/root" }))
      expect(lines).toContain(`${name}=${value}`);
    expect(lines).not.toContain("OLDPWD=/");
    expect((await exec(container, ["pwd"], { workdir: "/usr/lib" })).text).toBe("/usr/lib\n");
  });

  test("5 MiB come out as they are", async () => {
    const sum = await exec(container, ["sh", "-c", "head -c 5242880 /dev/urandom >/tmp/big; sha256sum </tmp/big"]);
    const { stdout } = await exec(container, ["cat", "/tmp/big"]);
    expect(stdout.length).toBe(5_242_880);
    const back = await exec(container, ["sha256sum"], { input: stdout });
    expect(back.text).toBe(sum.text);
  });

  test("input that nobody reads hangs nothing", async () => {
    expect((await exec(container, ["true"], { input: Buffer.alloc(1_000_000) })).code).toBe(0);
    expect((await exec(container, ["head", "-c", "1"], { input: Buffer.alloc(1_000_000, "x") })).text).toBe("x");
  });

  test("a slow reader gets everything", async () => {
    const spawned = await container.spawn({
      process_id: newId("process"),
      command: ["sh", "-c", "head -c 300000 /dev/zero"],
      env: {},
      input: "none",
    });
    spawned.stderr.stream().resume();
    void spawned.exited.then(() => spawned.release());
    await new Promise((resolve) => setTimeout(resolve, 300));
    let bytes = 0;
    for await (const chunk of spawned.stdout.stream()) bytes += (chunk as Buffer).length;
    expect(bytes).toBe(300_000);
  });

  test("kill takes the group, and every signal arrives", async () => {
    for (const [signal, code] of [
      ["SIGINT", 130],
      ["SIGTERM", 143],
      ["SIGQUIT", 131],
      ["SIGKILL", 137],
    ] as const) {
      const spawned = await container.spawn({
        process_id: newId("process"),
        command: ["sh", "-c", "sleep 77; true"],
        env: {},
        input: "none",
      });
      await new Promise((resolve) => setTimeout(resolve, 50));
      await spawned.kill(signal);
      expect(await spawned.exited).toBe(code);
    }
    expect((await exec(container, ["pgrep", "-f", "sleep 77$"])).text).toBe("");
    const early = await container.spawn({
      process_id: newId("process"),
      command: ["sleep", "60"],
      env: {},
      input: "none",
    });
    await early.kill("SIGKILL");
    expect(await early.exited).toBe(137);
  });

  test("50 at once", async () => {
    const codes = await Promise.all(
      Array.from({ length: 50 }, (_, index) => exec(container, ["sh", "-c", `echo ${index}; exit ${index}`])),
    );
    expect(codes.map(({ code, text }) => [code, text])).toEqual(codes.map((_, index) => [index, `${index}\n`]));
  });

  test("the launcher survives a kill of everything", async () => {
    await exec(container, ["sh", "-c", "kill -9 -1"]);
    expect((await exec(container, ["echo", "still"])).text).toBe("still\n");
    const stat = await exec(container, ["sh", "-c", "cat /proc/[0-9]*/stat"]);
    expect(stat.text.split("\n").filter((line) => / Z /.test(line))).toEqual([]);
  });
});

describe("walls", () => {
  test("the host is not to be seen, and the kernel not to be set", async () => {
    const script = `ls -A /root /home /opt /srv; ls -d ${dataDir} ${process.cwd()}; cat /etc/shadow`;
    expect((await exec(container, ["sh", "-c", script])).text.replaceAll(/^\/.*:$|\n/gm, "")).toBe("");
    for (const attempt of [
      "echo 1 >/proc/sys/kernel/panic",
      "echo x >/proc/sysrq-trigger",
      "echo x >/.sandbar/evil",
      "rm /.sandbar/cmd",
      "unshare -Ur true",
      "unshare -m true",
      "mount -t tmpfs t /mnt",
      "mknod /tmp/disk b 254 0",
      "chroot / true",
    ]) {
      expect([attempt, (await exec(container, ["sh", "-c", `(${attempt}) 2>/dev/null`])).code]).not.toEqual([
        attempt,
        0,
      ]);
    }
    const status = (await exec(container, ["cat", "/proc/self/status"])).text;
    expect(status).toMatch(/NoNewPrivs:\t1/);
    if (isRoot) expect(status).toMatch(/CapBnd:\t00000000a00005fb/);
    expect((await exec(container, ["cat", "/proc/net/dev"])).text.split("\n").length).toBe(4);
  });

  test("what is written stays in the sandbox", async () => {
    expect(
      (await exec(container, ["sh", "-c", "echo x >/usr/sandbar-wrote-this && cat /usr/sandbar-wrote-this"])).text,
    ).toBe("x\n");
    expect(existsSync("/usr/sandbar-wrote-this")).toBe(false);
  });

  test.runIf(isRoot)("too much memory is the end, and said so", async () => {
    const greedy = await runtime.start(
      specOf({ memory: 64, entrypoint: ["sh", "-c", "x=x; while :; do x=$x$x; done"] }),
    );
    expect(await greedy.exited).toEqual({ returncode: 137, oom: true });
    await greedy.stop();
  });
});

describe("entrypoint", () => {
  test("its end is the container's", async () => {
    const own = await runtime.start(specOf({ entrypoint: ["sh", "-c", "pwd >&2; exit 5"], workdir: "/made/for/it" }));
    expect(await own.exited).toEqual({ returncode: 5, oom: false });
    await own.stop();
  });

  test("one that is not there fails the start, and leaves nothing", async () => {
    const before = readdirSync(`${dataDir}/sandboxes`);
    await expect(runtime.start(specOf({ entrypoint: ["no-such-program"] }))).rejects.toThrow(StartFailure);
    await expect(runtime.start(specOf({ entrypoint: ["no-such-program"] }))).rejects.toThrow(
      "The entrypoint cannot be started: no-such-program: not found",
    );
    await expect(runtime.start(specOf({ image: "debian:12" }))).rejects.toThrow(StartFailure);
    expect(readdirSync(`${dataDir}/sandboxes`)).toEqual(before);
  });
});

test("snapshots bring everything back", async () => {
  const script = `cd /root && mkdir -p d/empty && echo one >f && chmod 640 f && ln f hard && ln -s f soft && rm /etc/mime.types /usr/bin/printf
    rm -rf /usr/games && mkdir /usr/games && echo new >/usr/games/new && chmod 700 d`;
  const source = await runtime.start(specOf());
  await exec(source, ["sh", "-c", script]);
  const [first, second] = [newId("image"), newId("image")];
  expect((await source.snapshot(first)).size).toBeGreaterThan(0);
  expect((await exec(source, ["echo", "on"])).text).toBe("on\n");
  await source.stop();
  const look = `cd /root; cat f; stat -c '%a %h %F' f soft d d/empty; readlink soft; ls /usr/games; ls -A /etc/mime.types /usr/bin/printf 2>/dev/null; cat more 2>/dev/null`;
  const state = "one\n640 2 regular file\n777 1 symbolic link\n700 3 directory\n755 2 directory\nf\nnew\n";
  const child = await runtime.start(specOf({ image: first }));
  expect((await exec(child, ["sh", "-c", look])).text).toBe(state);
  await exec(child, ["sh", "-c", "echo more >/root/more"]);
  await child.snapshot(second);
  await runtime.removeImage(first);
  await child.stop();
  const grandchild = await runtime.start(specOf({ image: second }));
  expect((await exec(grandchild, ["sh", "-c", look])).text).toBe(`${state}more\n`);
  await runtime.removeImage(second);
  expect((await exec(grandchild, ["cat", "/root/f"])).text).toBe("one\n");
  await grandchild.stop();
  await expect(runtime.start(specOf({ image: second }))).rejects.toThrow(StartFailure);
}, 30_000);

test("dial reaches a port inside, and says when nothing listens", async () => {
  await expect(container.dial(4321)).rejects.toMatchObject({ code: "ECONNREFUSED" });
  const script = `use IO::Socket; my $s = IO::Socket::INET->new(LocalAddr=>"127.0.0.1:4321",Listen=>5,ReuseAddr=>1) or die; print "up\\n"; $|=1; STDOUT->flush; while (my $c = $s->accept) { local $/; my $all = <$c>; print $c length($all), "\\n"; close $c }`;
  const listener = await container.spawn({
    process_id: newId("process"),
    command: ["perl", "-e", script],
    env: {},
    input: "none",
  });
  await once(listener.stdout.stream(), "data");
  const socket = await container.dial(4321);
  socket.end(Buffer.alloc(3_000_000, "y"));
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  expect(text).toBe("3000000\n");
  await listener.kill("SIGKILL");
}, 20_000);

test("another daemon takes over what runs, and knows what has ended", async () => {
  const other = mkdtempSync("/tmp/sandbar-again-");
  const first = await openEmbeddedRuntime({ dataDir: other });
  const running = await first.start(
    specOf({ entrypoint: ["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; done; exit 9"], generation: 4 }),
  );
  await exec(running, ["sh", "-c", "echo kept >/tmp/kept"]);
  const dead = await first.start(specOf());
  process.kill(Number.parseInt(readFileSync(`${other}/sandboxes/${dead.sandboxId}/init.stat`, "utf8"), 10), "SIGKILL");
  expect(await dead.exited).toEqual({ returncode: 137, oom: false });
  // The test of a real end of the daemon: another process that starts a container and is killed.
  const script = `
    const { openEmbeddedRuntime } = await import(${JSON.stringify(`${process.cwd()}/src/host/embedded/runtime.ts`)});
    const runtime = await openEmbeddedRuntime({ dataDir: ${JSON.stringify(other)} });
    const container = await runtime.start(${JSON.stringify(specOf({ entrypoint: ["sh", "-c", "until [ -e /tmp/go ]; do sleep 0.05; echo noise; done; exit 11"] }))});
    await container.dial(1).catch(() => {});
    process.stdout.write(container.sandboxId + "\\n");
    process.kill(process.pid, "SIGKILL");`;
  let orphan = "";
  try {
    execFileSync(process.execPath, ["--input-type=module", "-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  } catch (error) {
    orphan = String((error as { stdout: Buffer }).stdout).trim();
  }
  const second = await openEmbeddedRuntime({ dataDir: other });
  const found = new Map((await second.recover()).map((each) => [each.sandboxId, each]));
  expect([...found.keys()].sort()).toEqual([running.sandboxId, dead.sandboxId, orphan].sort());
  expect(await found.get(dead.sandboxId)!.exited).toEqual({ returncode: 137, oom: false });
  const adopted = found.get(orphan)!;
  expect((await exec(adopted, ["echo", "hello"])).text).toBe("hello\n");
  await exec(adopted, ["touch", "/tmp/go"]);
  expect(await adopted.exited).toEqual({ returncode: 11, oom: false });
  expect(found.get(running.sandboxId)!.generation).toBe(4);
  for (const each of found.values()) await Promise.all([each.stop(), each.stop()]);
  expect(readdirSync(`${other}/sandboxes`)).toEqual([]);
  rmSync(other, { recursive: true, force: true });
}, 40_000);

test("stop leaves nothing", async () => {
  const id = newId("sandbox");
  const one = await runtime.start(specOf({ sandbox_id: id, ...(isRoot ? { memory: 128, cpu: 0.5 } : {}) }));
  const init = readFileSync(`${dataDir}/sandboxes/${id}/init.stat`, "utf8").split(" ")[0]!;
  await exec(one, ["sh", "-c", "mkdir -p /root/deep/er; (setsid sleep 1000 &)"]);
  const running = await one.spawn({ process_id: newId("process"), command: ["sleep", "1000"], env: {}, input: "none" });
  await one.dial(9).catch(() => {});
  await one.stop();
  await one.stop();
  expect(await running.exited).toBeUndefined();
  expect(await one.exited).toEqual({ returncode: 137, oom: false });
  expect(existsSync(`/proc/${init}`)).toBe(false);
  expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(id);
  expect(existsSync(`${dataDir}/sandboxes/${id}`)).toBe(false);
  expect(readdirSync(`${dataDir}/trash`)).toEqual([]);
  expect(execFileSync("find", ["/sys/fs/cgroup", "-name", `*${id}*`]).toString()).toBe("");
});
