import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { DEV_KEY, Instance, sleep } from "./instance.ts";
import { RUNTIMES } from "./runtimes.ts";
import { TUNNEL_APP } from "./tunnel-app.ts";
import { askTunnel, tunnelHost } from "./tunnel-calls.ts";

const MIB = 1_048_576;

describe.each(RUNTIMES)("the spine on the %s runtime", (runtime) => {
  let instance: Instance;
  let sandboxId: string;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
    sandboxId = await instance.create({ timeout: 600, encrypted_ports: [9000, 9001], env: { FROM: "create" } });
  });
  afterAll(() => instance?.remove());

  it("runs argv without a shell and tells return codes", async () => {
    expect(await instance.exec(sandboxId, ["printf", "%s|", "a b", "$HOME", "'"])).toMatchObject({
      stdout: "a b|$HOME|'|",
      returncode: 0,
    });
    expect(await instance.exec(sandboxId, ["sh", "-c", "kill -TERM $$"])).toMatchObject({
      returncode: 143,
      signal: "SIGTERM",
    });
    expect(await instance.exec(sandboxId, ["nothing-like-it"])).toMatchObject({ returncode: 127 });
    expect(await instance.exec(sandboxId, ["/etc/passwd"])).toMatchObject({ returncode: 126 });
    expect(await instance.exec(sandboxId, ["printenv", "FROM"])).toMatchObject({ stdout: "create\n" });
    const stdin = Buffer.from("typed in").toString("base64");
    expect(await instance.exec(sandboxId, ["cat"], { stdin, workdir: "/tmp" })).toMatchObject({ stdout: "typed in" });
    expect(await instance.exec(sandboxId, ["sleep", "30"], { timeout: 1 })).toMatchObject({
      returncode: 137,
      timed_out: true,
    });
  });

  it("records a process, and kills it with all it started", async () => {
    const process = await instance.call<{ process_id: string; returncode: null }>(
      "POST",
      `/sandboxes/${sandboxId}/exec`,
      {
        command: ["sh", "-c", "sleep 4242 & sleep 4242"],
      },
    );
    expect(process.returncode).toBeNull();
    const path = `/sandboxes/${sandboxId}/processes/${process.process_id}`;
    expect(await instance.call("GET", path)).toMatchObject({ returncode: null });
    await instance.call("DELETE", path);
    expect(await instance.call("GET", `${path}?wait=5`)).toMatchObject({ returncode: 137, signal: "SIGKILL" });
    const count = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done 2>/dev/null | grep -c "^sleep 4242"';
    expect(await instance.exec(sandboxId, ["sh", "-c", count])).toMatchObject({ stdout: "0\n" });
  });

  it("streams 1 GiB in and out with flat memory in the Worker and the host", async () => {
    const size = 1024 * MIB;
    const block = randomBytes(4 * MIB);
    const sent = createHash("sha256");
    for (let at = 0; at < size; at += block.length) sent.update(block);
    const before = memoryOf(instance);
    let peak = 0;
    const watch = setInterval(() => (peak = Math.max(peak, memoryOf(instance))), 100);
    let enqueued = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (enqueued >= size) return controller.close();
        enqueued += block.length;
        controller.enqueue(new Uint8Array(block));
      },
    });
    const path = `/sandboxes/${sandboxId}/files?path=/tmp/large.bin`;
    const put = await instance.fetch(path, { method: "PUT", body, duplex: "half" } as RequestInit);
    expect(put.status).toBe(204);
    const got = createHash("sha256");
    let received = 0;
    for await (const chunk of (await instance.fetch(path)).body!) {
      got.update(chunk);
      received += chunk.length;
    }
    clearInterval(watch);
    expect(received).toBe(size);
    expect(got.digest("hex")).toBe(sent.digest("hex"));
    console.log(
      `${runtime}: memory of Worker and host ${Math.round(before / MIB)} MiB before, at most ${Math.round(peak / MIB)} MiB during 1 GiB each way`,
    );
    expect(peak - before).toBeLessThan(400 * MIB);
    await instance.exec(sandboxId, ["rm", "/tmp/large.bin"]);
  }, 180_000);

  it("keeps a mode, follows no link out of the sandbox, and answers ranges", async () => {
    const put = (path: string, body: string, query = "") =>
      instance.fetch(`/sandboxes/${sandboxId}/files?path=${encodeURIComponent(path)}${query}`, {
        method: "PUT",
        body,
        headers: { "content-type": "application/octet-stream" },
      });
    expect((await put("/srv/a/b/run.sh", "#!/bin/sh\necho one", "&mode=755")).status).toBe(204);
    expect((await put("/srv/a/b/run.sh", "#!/bin/sh\necho two")).status).toBe(204);
    expect(await instance.exec(sandboxId, ["/srv/a/b/run.sh"])).toMatchObject({ stdout: "two\n" });
    await instance.exec(sandboxId, ["ln", "-s", "../../../../../../../../../../tmp", "/srv/up"]);
    const marker = `outside-${randomBytes(6).toString("hex")}`;
    expect((await put(`/srv/up/${marker}`, "inside")).status).toBe(204);
    expect(await instance.exec(sandboxId, ["cat", `/tmp/${marker}`])).toMatchObject({ stdout: "inside" });
    expect(existsSync(`/tmp/${marker}`)).toBe(false);
    const part = await instance.fetch(`/sandboxes/${sandboxId}/files?path=/tmp/${marker}`, {
      headers: { range: "bytes=2-3" },
    });
    expect([part.status, part.headers.get("content-range"), await part.text()]).toEqual([206, "bytes 2-3/6", "si"]);
  });

  it("keeps the old file when an upload breaks off, with and without a length", async () => {
    const path = `/sandboxes/${sandboxId}/files?path=/tmp/cut`;
    const octets = { "content-type": "application/octet-stream" };
    expect((await instance.fetch(path, { method: "PUT", body: "the old one", headers: octets })).status).toBe(204);
    for (const framing of ["Content-Length: 1000\r\n\r\nnew", "Transfer-Encoding: chunked\r\n\r\nff\r\nnew"]) {
      const socket = connect(instance.port, "127.0.0.1");
      socket.on("error", () => undefined);
      const head = `PUT /v1${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${DEV_KEY}\r\n`;
      socket.write(`${head}Content-Type: application/octet-stream\r\n${framing}`);
      await sleep(500);
      socket.destroy();
      await sleep(1000);
      expect(await (await instance.fetch(path)).text()).toBe("the old one");
    }
    expect(await instance.exec(sandboxId, ["sh", "-c", "ls -a /tmp | grep -c sandbar-"])).toMatchObject({
      stdout: "0\n",
    });
  });

  it("reaches a port over HTTP and WebSocket, and says when nothing listens", async () => {
    const tunnels = await instance.call<Record<string, { host: string; port: number; url: string }>>(
      "GET",
      `/sandboxes/${sandboxId}/tunnels`,
    );
    expect(Object.keys(tunnels)).toEqual(["9000", "9001"]);
    const host = (port: number) => tunnelHost(instance, sandboxId, port);
    expect(tunnels["9000"]).toEqual({
      host: `9000-${sandboxId}.localhost`,
      port: instance.port,
      url: `http://${host(9000)}`,
    });
    const problem = { "content-type": "application/problem+json" };
    expect(await askTunnel(instance, host(9001))).toMatchObject({ status: 502, headers: problem });
    expect(await askTunnel(instance, host(9002))).toMatchObject({ status: 404, headers: problem });
    await instance.call("POST", `/sandboxes/${sandboxId}/exec`, { command: ["python3", "-c", TUNNEL_APP, "9000"] });
    const answer = await new Promise<string>((done, fail) => {
      const dial = (left: number) => {
        const socket = new WebSocket(instance.url.replace("http", "ws"), { headers: { host: host(9000) } });
        socket.on("open", () => socket.send("through the tunnel"));
        socket.on("message", (data: Buffer) => {
          done(data.toString());
          socket.close();
        });
        socket.on("error", (error) => (left > 0 ? setTimeout(() => dial(left - 1), 200) : fail(error)));
      };
      dial(20);
    });
    expect(answer).toBe("through the tunnel");
  });

  it("ends with its entrypoint, at its lifetime, when idle, and when it cannot start", async () => {
    const [exited, lifetime, idle, failed] = await Promise.all([
      instance.create({ entrypoint: ["sh", "-c", "sleep 0.5; exit 7"] }),
      instance.create({ timeout: 2 }),
      instance.create({ idle_timeout: 1 }),
      instance.create({ entrypoint: ["/no/such/program"] }),
    ]);
    expect(await instance.until(exited, ["finished"])).toMatchObject({ finish_reason: "exited", returncode: 7 });
    expect(await instance.until(lifetime, ["terminated"])).toMatchObject({ finish_reason: "timeout", returncode: 124 });
    expect(await instance.until(idle, ["terminated"])).toMatchObject({
      finish_reason: "idle_timeout",
      returncode: 137,
    });
    const start = await instance.until(failed, ["terminated"]);
    expect(start.finish_reason).toBe("start_failed");
    expect(start.error).toContain("/no/such/program");
  });

  it("keeps a snapshot until it is deleted, here and on the host", async () => {
    await instance.exec(sandboxId, ["sh", "-c", "echo kept > /root/kept; rm -f /etc/debian_version"]);
    const { image_id } = await instance.call<{ image_id: string }>("POST", `/sandboxes/${sandboxId}/snapshot`);
    const copy = await instance.create({ image: image_id });
    const script = "cat /root/kept; test ! -e /etc/debian_version && echo deleted";
    expect(await instance.exec(copy, ["sh", "-c", script])).toMatchObject({ stdout: "kept\ndeleted\n" });
    expect(await instance.sandbox(copy)).toMatchObject({ image: image_id });
    await instance.call("DELETE", `/sandboxes/${copy}`);
    await instance.call("DELETE", `/images/${image_id}`);
    const again = await instance.fetch("/sandboxes", { method: "POST", body: JSON.stringify({ image: image_id }) });
    expect([again.status, ((await again.json()) as { code: string }).code]).toEqual([404, "image_not_found"]);
  });

  it("ends start_failed or refuses when the image is not to be had", async () => {
    const response = await instance.fetch("/sandboxes", {
      method: "POST",
      body: JSON.stringify({ image: "localhost:1/none:1" }),
    });
    if (runtime !== "docker") {
      expect(response.status).toBe(422);
      expect(await response.json()).toMatchObject({ code: "unsupported_by_backend", errors: [{ path: "image" }] });
    } else {
      const { sandbox_id } = (await response.json()) as { sandbox_id: string };
      const ended = await instance.until(sandbox_id, ["terminated"], 60_000);
      expect(ended).toMatchObject({ finish_reason: "start_failed" });
      expect(ended.error).toContain("localhost:1/none:1");
    }
    const unknown = await instance.fetch("/sandboxes", {
      method: "POST",
      body: JSON.stringify({ image: "im-aaaaaaaaaaaaaaaaaaaaaa" }),
    });
    expect(unknown.status).toBe(404);
  });
});

/** Resident bytes of the Worker's and the host's processes. */
function memoryOf(instance: Instance): number {
  return residentBytes(instance.pid);
}

/** workerd's and the host's share below this process; what starts workerd, and a bundler of wrangler's, do not count. */
function residentBytes(root: number): number {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 4).split(" ")[0]));
    } catch {
      // It has ended meanwhile.
    }
  }
  let sum = 0;
  for (const pid of parents.keys()) {
    let above: number | undefined = pid;
    while (above !== undefined && above !== root && above > 1) above = parents.get(above);
    if (above !== root) continue;
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      if (!/workerd\0serve|src\/host\/cli\.ts/.test(command)) continue;
      sum += Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
    } catch {
      // It has ended meanwhile.
    }
  }
  return sum;
}
