import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { WebSocket } from "ws";
import { Instance } from "./instance.ts";
import { killHost, killWorker } from "./leftovers.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { TUNNEL_APP } from "./tunnel-app.ts";
import { askTunnel, openTunnel, tunnelHost, type Answer, type Asked } from "./tunnel-calls.ts";

const PORT = 9000;
const UPLOAD_MIB = 256;
const CONNECT = `import socket; socket.create_connection(("127.0.0.1", ${PORT}), 1)`;

let instance: Instance;
let sandboxId: string;

beforeAll(async () => {
  instance = await Instance.start(HOST_RUNTIMES.at(-1)!);
  sandboxId = await startApp();
}, 300_000);
afterAll(() => instance?.remove());

/** A sandbox with the app on its port. */
async function startApp(create: object = {}): Promise<string> {
  const id = await instance.create({ encrypted_ports: [PORT], ...create });
  await instance.exec(id, ["python3", "-c", TUNNEL_APP, String(PORT)], {}, 0);
  await instance.exec(id, [
    "sh",
    "-c",
    `for i in $(seq 100); do python3 -c '${CONNECT}' && exit; sleep 0.1; done; exit 1`,
  ]);
  return id;
}

const hostOf = (id: string) => tunnelHost(instance, id, PORT);
type AskedOf = Asked & { id?: string };
const open = (path: string, { id = sandboxId, ...asked }: AskedOf = {}) =>
  openTunnel(instance, hostOf(id), { path, ...asked });
const ask = (path: string, { id = sandboxId, ...asked }: AskedOf = {}) =>
  askTunnel(instance, hostOf(id), { path, ...asked });
const jsonOf = ({ body }: Answer) =>
  JSON.parse(body.toString()) as Record<string, unknown> & { headers: Record<string, string> };

describe("a tunnel", () => {
  it("tells the app who asks, which no client can forge", async () => {
    const forged = {
      "cf-connecting-ip": "203.0.113.9",
      "x-forwarded-for": "203.0.113.9",
      "x-verified-user-data": "root",
    };
    const { headers } = jsonOf(await ask("/a?b=%20", { headers: { ...forged, "x-mine": "1" } }));
    expect(headers).toMatchObject({
      host: hostOf(sandboxId),
      "x-forwarded-for": "127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": hostOf(sandboxId),
      "x-mine": "1",
    });
    expect(Object.keys(headers).filter((name) => /^(cf-|x-sandbar-|x-verified)/.test(name))).toEqual([]);
  });

  it("is open to whom its list names, which no client can forge either", async () => {
    const [local, elsewhere] = await Promise.all([
      startApp({ inbound_cidr_allowlist: ["127.0.0.0/8"] }),
      startApp({ inbound_cidr_allowlist: ["203.0.113.0/24"] }),
    ]);
    const headers = { "cf-connecting-ip": "203.0.113.9", "x-sandbar-client": "203.0.113.9" };
    expect((await ask("/", { id: local, headers })).status).toBe(200);
    expect((await ask("/", { id: elsewhere, headers })).status).toBe(403);
    await Promise.all([local, elsewhere].map((id) => instance.call("DELETE", `/sandboxes/${id}`)));
  });

  const FRAMINGS = ["with a length", "in chunks"];
  const lengthIn = (framing: string, bytes: number) => (framing === "in chunks" ? {} : { "content-length": bytes });

  it.each(FRAMINGS)("takes large uploads %s", async (framing) => {
    const chunk = Buffer.alloc(1 << 20, "upload");
    const digest = createHash("sha256");
    for (let n = 0; n < UPLOAD_MIB; n += 1) digest.update(chunk);
    const headers = lengthIn(framing, UPLOAD_MIB << 20);
    const answer = jsonOf(await ask("/", { method: "POST", headers, body: Array(UPLOAD_MIB).fill(chunk) as Buffer[] }));
    expect(answer).toMatchObject({ size: String(UPLOAD_MIB << 20), sha256: digest.digest("hex") });
    expect(answer.headers["content-length"]).toBe(framing === "in chunks" ? undefined : String(UPLOAD_MIB << 20));
  });

  it.each(FRAMINGS)("answers a body %s while it is still being sent", async (framing) => {
    const [rounds, piece] = [8, Buffer.alloc(1_500_000, "piece")];
    const back = Array.from({ length: rounds }, () => Promise.withResolvers<void>());
    async function* waiting() {
      for (const { promise } of back) {
        yield piece;
        await promise;
      }
    }
    const headers = lengthIn(framing, rounds * piece.length);
    const answer = await open("/echo", { method: "POST", headers, body: waiting() });
    let received = 0;
    for await (const part of answer) {
      received += (part as Buffer).length;
      for (const { resolve } of back.slice(0, Math.floor(received / piece.length))) resolve();
    }
    expect(received).toBe(rounds * piece.length);
  });

  it.each(FRAMINGS)("passes the answer of an app that has enough of a body %s", async (framing) => {
    const folder = mkdtempSync("/tmp/sandbar-upload-");
    writeFileSync(`${folder}/large`, Buffer.alloc(64 << 20));
    // curl still hears what is said to it where it cannot send on; Node does not.
    const upload = `curl -s -m 60 -X POST -H 'host: ${hostOf(sandboxId)}' -w '%{stderr}%{http_code}' http://127.0.0.1:${instance.port}/enough`;
    const how = framing === "in chunks" ? `-T - < ${folder}/large` : `-T ${folder}/large`;
    const { stdout, stderr } = await promisify(execFile)("sh", ["-c", `${upload} ${how}`], { encoding: "buffer" });
    rmSync(folder, { recursive: true });
    expect([stderr.toString(), gunzipSync(stdout).toString()]).toEqual(["413", "enough"]);
  });

  it.each(FRAMINGS)("lets the app know that a body %s has broken off", async (framing) => {
    async function* broken() {
      yield Buffer.alloc(3 << 20);
      await new Promise((wake) => setTimeout(wake, 300));
      throw new Error("the client has gone");
    }
    const sent = ask("/", { method: "POST", headers: lengthIn(framing, 8 << 20), body: broken() });
    await expect(sent).rejects.toThrow("the client has gone");
    const told = ["sh", "-c", "for i in $(seq 50); do rm /tmp/broke-off 2>/dev/null && exit; sleep 0.1; done; exit 1"];
    expect((await instance.exec(sandboxId, told)).returncode).toBe(0);
  });

  it("passes answers as they come", async () => {
    const times: number[] = [];
    const events = await open("/sse");
    for await (const chunk of events)
      times.push(
        ...String(chunk)
          .split("data:")
          .slice(1)
          .map(() => Date.now()),
      );
    expect(times.length).toBe(5);
    expect(times[4]! - times[0]!).toBeGreaterThan(800);
    const big = await ask("/big/64");
    expect([big.headers["content-length"], big.body.length]).toEqual([String(64 << 20), 64 << 20]);
  });

  it("passes packed answers packed, and the length of what was not asked for", async () => {
    const packed = await ask("/gzip", { headers: { "accept-encoding": "gzip" } });
    expect(packed.headers).toMatchObject({ "content-encoding": "gzip", "set-cookie": ["a=1"] });
    expect(gunzipSync(packed.body).toString()).toBe("packed".repeat(1000));
    const head = await ask("/a", { method: "HEAD" });
    expect([head.status, Number(head.headers["content-length"]) > 50, head.body.length]).toEqual([200, true, 0]);
  });

  it("carries WebSockets: text, bytes, much at once, and how they end", async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${instance.port}/ws`, { headers: { host: hostOf(sandboxId) } });
    const upgraded = new Promise<IncomingMessage>((done) => socket.once("upgrade", done));
    await new Promise((done, fail) => socket.once("open", done).once("error", fail));
    expect((await upgraded).headers["set-cookie"]).toEqual(["ws=1"]);
    for (const sent of ["text ä", Buffer.from([0, 255, 10]), Buffer.alloc(900_000, 7), "x".repeat(4 << 20)]) {
      const echoed = new Promise<[Buffer, boolean]>((done) =>
        socket.once("message", (data: Buffer, isBinary) => done([data, isBinary])),
      );
      socket.send(sent);
      const [data, isBinary] = await echoed;
      expect(isBinary).toBe(typeof sent !== "string");
      expect(data.equals(Buffer.from(sent))).toBe(true);
    }
    const closed = new Promise((done) => socket.once("close", (code, reason) => done([code, String(reason)])));
    socket.send("close");
    expect(await closed).toEqual([4001, "bye"]);
  });
});

describe("a private tunnel", () => {
  it("opens with a token, by header, cookie and URL", async () => {
    const id = await startApp({ tunnel_auth: "token" });
    const { url, token } = await instance.call<{ url: string; token: string }>(
      "POST",
      `/sandboxes/${id}/connect-tokens`,
      {
        port: PORT,
        user_metadata: { user: "zoë" },
      },
    );
    expect(url).toBe(`http://${hostOf(id)}`);
    expect((await ask("/", { id })).status).toBe(401);
    const byHeader = jsonOf(await ask("/", { id, headers: { authorization: `Bearer ${token}` } }));
    expect(JSON.parse(byHeader.headers["x-verified-user-data"]!)).toEqual({ user: "zoë" });
    const first = await ask(`/page?_sandbar_token=${token}&a=1`, { id, headers: { accept: "text/html" } });
    expect([first.status, first.headers.location]).toEqual([302, `${url}/page?a=1`]);
    const cookie = first.headers["set-cookie"]![0]!.split(";")[0]!;
    const byCookie = jsonOf(await ask("/page?a=1", { id, headers: { cookie } }));
    expect(JSON.stringify(byCookie)).not.toContain(token);
    const upgrade = (query: string) =>
      new Promise((done) => {
        const socket = new WebSocket(`ws://127.0.0.1:${instance.port}/ws${query}`, { headers: { host: hostOf(id) } });
        socket.once("open", () => done(socket.terminate() ?? 101));
        socket.once("unexpected-response", (request, response) => done(response.statusCode ?? request.destroy()));
        socket.on("error", () => undefined);
      });
    expect([await upgrade(""), await upgrade(`?_sandbar_token=${token}`)]).toEqual([401, 101]);
  });

  it("is the same after the Worker was killed, and after the host was", async () => {
    const id = await startApp({ tunnel_auth: "token" });
    const { token } = await instance.call<{ token: string }>("POST", `/sandboxes/${id}/connect-tokens`, { port: PORT });
    const headers = { authorization: `Bearer ${token}` };
    // The embedded runtime's containers end with its host.
    const hosts = instance.runtime === "docker" ? [killHost] : [];
    for (const kill of [killWorker, ...hosts]) {
      kill(instance);
      const statusOf = (asked: AskedOf) => ask("/", { id, ...asked }).then(({ status }) => status, String);
      const others: (number | string)[] = [];
      // What answers first may still be on its way out.
      const both = async () => {
        others.push(await statusOf({}));
        return [await statusOf({ headers }), others.at(-1)];
      };
      await expect.poll(both, { timeout: 30_000 }).toEqual([200, 401]);
      expect(others).not.toContain(200);
    }
  });
});
