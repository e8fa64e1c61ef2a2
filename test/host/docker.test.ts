import { execSync } from "node:child_process";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import { type Container, StartFailure } from "../../src/host/runtime.ts";
import {
  bytes,
  DockerHost,
  exec,
  follow,
  IMAGE,
  inspect,
  makeEmptyImage,
  noEngine,
  removeImages,
  sh,
  spec,
} from "./docker-host.ts";
import { until } from "./signed-host.ts";

const host = await DockerHost.open();
const { runtime, hostId, dataDir, started } = host;
/** The engine's name of a snapshot. */
const named = (imageId: string) => `sandbar/${hostId}:${imageId}`;
const start = (more: Partial<StartSpec> = {}) => host.start(more);

afterAll(() => host.close());

describe.skipIf(noEngine !== undefined)("docker runtime", { timeout: 30_000 }, () => {
  it.each([
    [{ image: "im-aaaaaaaaaaaaaaaaaaaaaa" }, /^the image im-a+ is not on this host$/],
    [{ image: "127.0.0.1:1/none:x" }, /^the image 127.0.0.1:1\/none:x cannot be pulled: .*refused/],
    [{ image: "NOT AN IMAGE" }, /^"NOT AN IMAGE" is no image reference$/],
    [{ image: "debian/../../containers" }, /is no image reference$/],
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
        `docker image inspect ${named(imageId)}; docker history --no-trunc ${named(imageId)}`,
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
      await expect(runtime.start(spec({ image: named(again) }))).rejects.toThrow(/is a snapshot/);
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
    const running = await start({ raw_ports: [80], generation: 1, lifetime_ms: 600_000 });
    await ended.exited;
    ended.main!.release();
    const found = await runtime.recover();
    const byId = (container: Container) => found.find(({ sandboxId }) => sandboxId === container.sandboxId)!;
    expect(await byId(ended).exited).toEqual({ returncode: 9, oom: false });
    const { generation, deadlineAt, publishedPorts } = byId(running);
    expect({ generation, deadlineAt, publishedPorts }).toEqual({
      generation: 1,
      deadlineAt: running.deadlineAt,
      publishedPorts: running.publishedPorts,
    });
    expect((await exec(byId(running), ["true"])).code).toBe(0);
  });

  it("runs in an image that holds nothing", async () => {
    const image = makeEmptyImage("sandbar-test:empty");
    const container = await start({ image, env: { LANG: "x", IFS: "y" } });
    const busybox = (...args: string[]) => exec(container, ["/.sandbar/busybox", ...args]);
    expect(await busybox("echo", "hi")).toEqual({ stdout: "hi\n", stderr: "", code: 0 });
    expect((await busybox("env")).stdout).toContain("IFS=y\n");
    expect(await exec(container, ["echo"])).toEqual({ stdout: "", stderr: "sandbar: echo: not found\n", code: 127 });
    await container.stop();
    removeImages(image);
  });

  it("falls back to the image's sleep where the engine cannot see this machine's folders", async () => {
    const folder = await mkdtemp(join(tmpdir(), "sandbar-docker-"));
    const remote = await openDockerRuntime({ dataDir: folder, hostId });
    await rm(folder, { recursive: true });
    const container = await remote.start(spec());
    started.push(container);
    expect((await exec(container, ["ls", "/.sandbar"])).code).toBe(2);
    const image = makeEmptyImage("sandbar-test:empty2");
    await expect(remote.start(spec({ image }))).rejects.toThrow(/no `sleep` .*busybox-static/);
    removeImages(image);
  });

  it.each([
    ["says nothing", "sleep 1000"],
    ["ends at once", "exit 1"],
  ])("does without a launcher that %s", async (_, script) => {
    const other = await DockerHost.open();
    await writeFile(join(other.dataDir, "tools/launcher.sh"), script);
    const container = await other.start({ entrypoint: ["sh", "-c", "echo up; exec sleep 100"] });
    const seen = follow(container.main!.stdout.stream());
    expect((await exec(container, ["echo", "hi"])).stdout).toBe("hi\n");
    await until(() => seen.text === "up\n");
    // Known from now on.
    const begin = Date.now();
    expect(inspect(await other.start(), "{{.Config.Entrypoint}}")).toBe("[/.sandbar/busybox sleep 2147483647]");
    expect(Date.now() - begin).toBeLessThan(4_000);
    expect(await readdir(await other.runtimeDir())).toEqual([]);
    await other.close();
  });

  it("rejects with a reason where no engine answers", async () => {
    await expect(openDockerRuntime({ dataDir, hostId, socketPath: join(dataDir, "none.sock") })).rejects.toThrow(
      /no container engine answers at .*none\.sock/,
    );
  });

  it("leaves nothing once all are stopped", async () => {
    await Promise.all(started.map((container) => container.stop()));
    expect(host.left()).toBe("");
    expect([await readdir(await host.runtimeDir()), await readdir(join(dataDir, "docker"))]).toEqual([[], []]);
  });
});
