import { execFileSync, execSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { afterAll, describe, expect, it } from "vitest";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { type Container, type Runtime, StartFailure } from "../../src/host/runtime.ts";
import { Engine } from "../../src/host/docker/engine.ts";
import { spawnExec } from "../../src/host/docker/exec.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";

const IMAGE = "debian:bookworm-slim";
const dataDir = await mkdtemp(join(tmpdir(), "sandbar-docker-"));
const hostId = newId("host");
const absent = missing();
if (absent) console.log(`docker runtime: skipped, ${absent}`);
const runtime = absent ? (undefined as unknown as Runtime) : await openDockerRuntime({ dataDir, hostId });
const started: Container[] = [];
let shared: Promise<Container> | undefined;

function missing(): string | undefined {
  try {
    execFileSync("docker", ["image", "inspect", IMAGE], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return `no engine with ${IMAGE}: ${String((error as { stderr?: Buffer }).stderr ?? error).trim()}`;
  }
}

function spec(more: Partial<StartSpec> = {}): StartSpec {
  const sandbox_id = newId("sandbox");
  const base = { environment: "main", generation: 1, image: IMAGE, env: {}, raw_ports: [] };
  return { sandbox_id, ...base, deadline_at: 1_900_000_000_000, ...more };
}

async function start(more: Partial<StartSpec> = {}): Promise<Container> {
  const container = await runtime.start(spec(more));
  started.push(container);
  return container;
}

const idle = () => (shared ??= start());

async function bytes(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function spawn(
  container: Container,
  command: string[],
  more: { env?: Record<string, string>; workdir?: string } = {},
) {
  return container.spawn({ process_id: newId("process"), command, env: {}, ...more });
}

async function exec(
  container: Container,
  command: string[],
  more: { env?: Record<string, string>; workdir?: string; stdin?: string } = {},
) {
  const { stdin, ...options } = more;
  const process = await spawn(container, command, options);
  process.stdin.end(stdin);
  const [stdout, stderr, code] = await Promise.all([bytes(process.stdout), bytes(process.stderr), process.exited]);
  return { stdout: stdout.toString(), stderr: stderr.toString(), code };
}

const sh = (container: Container, script: string) => exec(container, ["sh", "-c", script]);
const names = () => execSync(`docker ps -aq --filter label=dev.sandbar.host=${hostId}`).toString().trim();
const inspect = (container: Container, format: string) =>
  execFileSync("docker", ["inspect", `sandbar-${container.sandboxId}-1`, "-f", format], { stdio: "pipe" })
    .toString()
    .trim();

afterAll(async () => {
  await Promise.all(started.map((container) => container.stop()));
  await rm(dataDir, { recursive: true, force: true });
});

describe.skipIf(absent !== undefined)("docker runtime", { timeout: 30_000 }, () => {
  it.each([
    [["true"], 0],
    [["sh", "-c", "exit 3"], 3],
    [["sh", "-c", "kill -9 $$"], 137],
    [["sh", "-c", "kill -15 $$"], 143],
    [["sh", "-c", "exit 127"], 127],
  ])("exec %j ends with %i", async (command, code) => {
    expect(await exec(await idle(), command)).toEqual({ stdout: "", stderr: "", code });
  });

  it.each([
    [["nope"], undefined, 127, /^exec: "nope": executable file not found in \$PATH\n$/],
    [["/nope"], undefined, 127, /no such file or directory\n$/],
    [["/etc/passwd"], undefined, 126, /permission denied\n$/],
    [["true"], "/nope", 126, /chdir .*no such file or directory\n$/],
    [["true"], "/etc/passwd", 126, /not a directory\n$/],
  ])("exec %j in %s is refused with %i on stderr", async (command, workdir, code, reason) => {
    const result = await exec(await idle(), command, workdir ? { workdir } : {});
    expect(result).toEqual({ stdout: "", stderr: expect.stringMatching(reason), code });
  });

  it("gives a program that prints the engine's words its stdout", async () => {
    const words = "OCI runtime exec failed: not at all";
    expect(await sh(await idle(), `echo "${words}"; exit 126`)).toEqual({
      stdout: `${words}\n`,
      stderr: "",
      code: 126,
    });
  });

  it("passes 5 MiB of any bytes exactly, stderr beside it", async () => {
    const script =
      "import os,sys\nb=bytes(i*7%256 for i in range(5<<20))\nsys.stderr.write('e'*100000)\nsys.stdout.buffer.write(b)";
    const process = await spawn(await idle(), ["python3", "-c", script]);
    const [stdout, stderr, code] = await Promise.all([bytes(process.stdout), bytes(process.stderr), process.exited]);
    const want = Buffer.from(Uint8Array.from({ length: 5 << 20 }, (_, index) => index * 7));
    const hash = (data: Buffer) => createHash("sha256").update(data).digest("hex");
    expect([stdout.length, hash(stdout), stderr.length, code]).toEqual([want.length, hash(want), 100_000, 0]);
  });

  it("holds a process back while nobody reads, and loses nothing", async () => {
    const process = await spawn(await idle(), ["sh", "-c", "head -c 20000000 /dev/zero"]);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(process.stdout.readableLength).toBeLessThan(1_000_000);
    expect((await bytes(process.stdout)).length).toBe(20_000_000);
    expect(await process.exited).toBe(0);
  });

  it("keeps stdout and stderr apart; env and workdir count", async () => {
    const result = await exec(await idle(), ["sh", "-c", "pwd; echo $A >&2"], { env: { A: "x y" }, workdir: "/usr" });
    expect(result).toEqual({ stdout: "/usr\n", stderr: "x y\n", code: 0 });
  });

  it("passes stdin and its end", async () => {
    const big = "0123456789".repeat(200_000);
    const { stdout, code } = await exec(await idle(), ["sha256sum"], { stdin: big });
    expect([stdout.slice(0, 64), code]).toEqual([createHash("sha256").update(big).digest("hex"), 0]);
  });

  it("drops stdin that the process does not want", async () => {
    expect((await exec(await idle(), ["true"], { stdin: "x".repeat(3_000_000) })).code).toBe(0);
  });

  it("ends a process whose stdin stays open", async () => {
    const process = await spawn(await idle(), ["echo", "hi"]);
    expect([(await bytes(process.stdout)).toString(), await process.exited]).toEqual(["hi\n", 0]);
  });

  it("kills the whole group", async () => {
    const container = await idle();
    const process = await spawn(container, ["sh", "-c", "sleep 4321 & echo up; wait"]);
    await once(process.stdout, "data");
    await process.kill("SIGKILL");
    expect(await process.exited).toBe(137);
    process.stdout.resume();
    const left = await sh(container, "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 4321'");
    expect(left.stdout.trim()).toBe("0");
    await process.kill("SIGKILL");
  });

  it.each([true, false])("kills from inside where pids are not ours, busybox mounted: %s", async (hasTools) => {
    const container = await idle();
    const context = {
      engine: new Engine(undefined),
      containerId: inspect(container, "{{.Id}}"),
      containerEnded: container.exited,
    };
    const request = { process_id: newId("process"), command: ["sh", "-c", "sleep 4321 & echo up; wait"], env: {} };
    const process = await spawnExec({ ...context, direct: false, hasTools }, request);
    await once(process.stdout, "data");
    await process.kill("SIGKILL");
    expect(await process.exited).toBe(137);
  });

  it("lets a process handle a signal", async () => {
    const process = await spawn(await idle(), [
      "sh",
      "-c",
      "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done",
    ]);
    await once(process.stdout, "data");
    await process.kill("SIGTERM");
    expect(await process.exited).toBe(42);
  });

  it("is not held up by a child that keeps stdout", async () => {
    // Its own container: engine 20.10 tells of other ends in it only when the child has let go.
    const container = await start();
    const before = Date.now();
    const result = await sh(container, "sleep 6 & echo hi; exit 5");
    expect(result).toEqual({ stdout: "hi\n", stderr: "", code: 5 });
    expect(Date.now() - before).toBeLessThan(1500);
  });

  it("runs 20 at once, each with its own output", async () => {
    const container = await idle();
    const results = await Promise.all(Array.from({ length: 20 }, (_, n) => sh(container, `echo ${n}; exit ${n}`)));
    expect(results.map(({ stdout, code }) => [stdout, code])).toEqual(results.map((_, n) => [`${n}\n`, n]));
  });

  it.each([
    ["exit 7", 7],
    ["kill -9 $$", 137],
    ["kill -15 $$", 143],
  ])("entrypoint `%s` ends with %i", async (script, code) => {
    const container = await start({ entrypoint: ["sh", "-c", script] });
    expect(await container.exited).toEqual({ returncode: code, oom: false });
  });

  it("takes its processes along when it is stopped, and leaves nothing", async () => {
    const container = await start();
    const process = await spawn(container, ["sleep", "100"]);
    await Promise.all([container.stop(), container.stop()]);
    expect(await container.exited).toEqual({ returncode: 137, oom: false });
    expect(await process.exited).toBe(137);
    expect(() => inspect(container, "{{.Id}}")).toThrow();
    await container.stop();
    await expect(spawn(container, ["true"])).rejects.toThrow();
  });

  it("says out of memory, for the entrypoint only", async () => {
    const script = "x=bytearray(10**9)";
    const container = await start({ entrypoint: ["python3", "-c", script], memory: 32 });
    expect(await container.exited).toEqual({ returncode: 137, oom: true });
    const idler = await start({ memory: 32 });
    expect((await exec(idler, ["python3", "-c", script])).code).toBe(137);
    expect((await exec(idler, ["true"])).code).toBe(0);
  });

  it.each([
    [{ image: "im-aaaaaaaaaaaaaaaaaaaaaa" }, /^the image im-a+ is not on this host$/],
    [{ image: "127.0.0.1:1/none:x" }, /^the image 127.0.0.1:1\/none:x cannot be pulled: .*refused/],
    [{ image: "NOT AN IMAGE" }, /^"NOT AN IMAGE" is no image reference$/],
    [{ image: "debian/../../containers" }, /is no image reference$/],
    [{ entrypoint: ["nope"] }, /^the entrypoint "nope" was not found in the image$/],
    [{ entrypoint: ["/no/such"] }, /"\/no\/such" was not found/],
    [{ entrypoint: ["/etc/passwd/x"] }, /was not found/],
    [{ entrypoint: ["/etc/passwd"] }, /^the entrypoint "\/etc\/passwd" is not executable$/],
    [{ entrypoint: ["/etc"] }, /is not executable/],
    [{ workdir: "/etc/passwd" }, /\/etc\/passwd is not a directory/],
    [{ memory: 1 }, /memory/i],
    [{ cpu: 4096 }, /CPUs/],
  ])("start with %j fails and leaves nothing", async (more, reason) => {
    const wanted = spec(more);
    const failure = await runtime.start(wanted).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(StartFailure);
    expect((failure as Error).message).toMatch(reason);
    expect(execSync(`docker ps -aq --filter name=${wanted.sandbox_id}`).toString()).toBe("");
  });

  it("starts over what a half-done start left", async () => {
    const wanted = spec();
    execSync(`docker create --name sandbar-${wanted.sandbox_id}-1 ${IMAGE} true`);
    const container = await runtime.start(wanted);
    started.push(container);
    expect((await exec(container, ["true"])).code).toBe(0);
  });

  it("limits and hardens", async () => {
    const container = await start({ cpu: 0.5, memory: 64 });
    const { stdout } = await sh(
      container,
      "grep -E 'NoNewPrivs|CapBnd' /proc/self/status; ulimit -n; touch /.sandbar/x; ls -ld /.sandbar/busybox",
    );
    expect(stdout).toMatch(/CapBnd:\s+00000000a00405fb\nNoNewPrivs:\s+1\n\d+\n-rwxr-xr-x/);
    const limits = inspect(
      container,
      "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.PidsLimit}}",
    );
    expect(limits).toBe("500000000 67108864 67108864 4096");
  });

  it("snapshots without the sandbox's variables, and starts from it", async () => {
    const container = await start({ env: { TOKEN: "s3cret-value", PATH: "/usr/bin:/bin:/s3cret-path" } });
    expect(
      (await sh(container, "echo $TOKEN > /root/kept; mkdir /root/empty; ln -s kept /root/link; chmod 640 /root/kept"))
        .code,
    ).toBe(0);
    const imageId = newId("image");
    try {
      const { size } = await container.snapshot(imageId);
      expect(size).toBeGreaterThan(1_000_000);
      const about = execSync(
        `docker image inspect sandbar/snapshot:${imageId}; docker history --no-trunc sandbar/snapshot:${imageId}`,
      ).toString();
      expect(about).not.toMatch(/TOKEN|s3cret|dev\.sandbar\.(host|sandbox|deadline)|2147483647/);
      expect((await exec(container, ["true"])).code).toBe(0);
      const restored = await start({ image: imageId });
      const { stdout } = await sh(
        restored,
        "cat /root/link; stat -c '%a %F' /root/kept /root/empty; echo \"[$TOKEN]\"",
      );
      expect(stdout).toBe("s3cret-value\n640 regular file\n755 directory\n[]\n");
      const again = newId("image");
      await restored.snapshot(again);
      await runtime.removeImage(imageId);
      await expect(runtime.start(spec({ image: `sandbar/snapshot:${again}` }))).rejects.toThrow(/is a snapshot/);
      await expect(runtime.start(spec({ image: imageId }))).rejects.toThrow(StartFailure);
      expect((await exec(restored, ["cat", "/root/kept"])).code).toBe(0);
      const base = inspect(restored, "{{.Image}}");
      await restored.stop();
      await runtime.removeImage(again);
      expect(() => execSync(`docker image inspect ${base}`, { stdio: "pipe" })).toThrow();
    } finally {
      await runtime.removeImage(imageId);
      await runtime.removeImage(imageId);
    }
  });

  it("keeps containers from each other and from the cloud's metadata", async () => {
    const listen = "import socket,time\ns=socket.create_server(('',8000))\nwhile True: s.accept()[0].sendall(b'mine')";
    const one = await start({ entrypoint: ["python3", "-c", listen] });
    const reached = () =>
      one.dial(8000).then(
        (socket) => !!socket.destroy(),
        () => false,
      );
    await expect.poll(reached, { timeout: 8000 }).toBe(true);
    const address = (await exec(one, ["hostname", "-I"])).stdout.trim();
    const two = await start();
    const script = `import socket,sys\nfor host, port in (("${address}", 8000), ("169.254.169.254", 80)):
  try: socket.create_connection((host, port), 1.5); print("reached", host)
  except OSError: print("kept", host)`;
    expect((await exec(two, ["python3", "-c", script])).stdout).toBe(`kept ${address}\nkept 169.254.169.254\n`);
  });

  it("dials a port inside, publishes raw ones", async () => {
    const server = [
      "import socket",
      "s=socket.create_server(('',8000))",
      "while True:",
      "  c,_=s.accept()",
      "  b=b''.join(iter(lambda:c.recv(65536),b''))",
      "  c.sendall(b'got '+b);c.close()",
    ].join("\n");
    const container = await start({ raw_ports: [8000, 9000], entrypoint: ["python3", "-c", server] });
    await expect(container.dial(9)).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await expect
      .poll(
        () =>
          container.dial(8000).then(
            (socket) => !!socket.destroy(),
            () => false,
          ),
        { timeout: 8000 },
      )
      .toBe(true);
    const inside = await container.dial(8000);
    inside.end("half a word");
    expect((await bytes(inside)).toString()).toBe("got half a word");
    expect(Object.keys(container.publishedPorts)).toEqual(["8000", "9000"]);
    const outside = connect({ port: container.publishedPorts["8000"]!, host: "127.0.0.1", allowHalfOpen: true });
    outside.end("another");
    expect((await bytes(outside)).toString()).toBe("got another");
  });

  it("finds its containers again, running and ended", async () => {
    const ended = await start({ entrypoint: ["sh", "-c", "exit 9"] });
    const running = await start({ raw_ports: [80], generation: 1, deadline_at: 1_800_000_000_123 });
    await ended.exited;
    const other = await openDockerRuntime({ dataDir, hostId });
    const found = await other.recover();
    const byId = (container: Container) => found.find(({ sandboxId }) => sandboxId === container.sandboxId)!;
    expect(await byId(ended).exited).toEqual({ returncode: 9, oom: false });
    const { generation, deadlineAt, publishedPorts } = byId(running);
    expect({ generation, deadlineAt, publishedPorts }).toEqual({
      generation: 1,
      deadlineAt: 1_800_000_000_123,
      publishedPorts: running.publishedPorts,
    });
    expect((await exec(byId(running), ["true"])).code).toBe(0);
    expect(await (await openDockerRuntime({ dataDir, hostId: newId("host") })).recover()).toEqual([]);
  });

  it("idles in an image that holds nothing", async () => {
    execSync("mkdir -p empty && tar -C empty -c . | docker import - sandbar-test:empty", {
      cwd: dataDir,
      stdio: "pipe",
    });
    const container = await start({ image: "sandbar-test:empty" });
    expect(await exec(container, ["/.sandbar/busybox", "echo", "hi"])).toEqual({ stdout: "hi\n", stderr: "", code: 0 });
    await container.stop();
    execSync("docker rmi sandbar-test:empty", { stdio: "pipe" });
  });

  it("falls back to the image's sleep where the engine cannot see this machine's folders", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sandbar-docker-"));
    const remote = await openDockerRuntime({ dataDir: folder, hostId });
    await rm(folder, { recursive: true });
    const container = await remote.start(spec());
    started.push(container);
    expect((await exec(container, ["ls", "/.sandbar"])).code).toBe(2);
    execSync("mkdir -p empty && tar -C empty -c . | docker import - sandbar-test:empty2", {
      cwd: dataDir,
      stdio: "pipe",
    });
    await expect(remote.start(spec({ image: "sandbar-test:empty2" }))).rejects.toThrow(/no `sleep` .*busybox-static/);
    execSync("docker rmi sandbar-test:empty2", { stdio: "pipe" });
  });

  // As much as a pipe holds by itself: a process with more waits for its reader.
  it("tells the end of a process whose output nobody reads", async () => {
    const process = await spawn(await idle(), ["head", "-c", "32000", "/dev/zero"]);
    expect(await process.exited).toBe(0);
    expect((await bytes(process.stdout)).length).toBe(32_000);
  });

  it("rejects with a reason where no engine answers", async () => {
    await expect(openDockerRuntime({ dataDir, hostId, socketPath: join(dataDir, "none.sock") })).rejects.toThrow(
      /no container engine answers at .*none\.sock/,
    );
  });

  it("leaves nothing once all are stopped", async () => {
    await Promise.all(started.map((container) => container.stop()));
    expect(names()).toBe("");
  });
});
