import { createServer, type Server, type ServerResponse } from "node:http";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { ChildRuntime } from "./child-runtime.ts";
import { listening, SignedHost, until } from "./signed-host.ts";

const QUIET_MS = 400;

let host: SignedHost;
let box: string;
let app: Server;
let path: string;
/** The answers that the app has begun, and of which nothing more comes by itself. */
const answers: ServerResponse[] = [];

beforeAll(async () => {
  host = await SignedHost.start(new ChildRuntime(), { tunnelQuietMs: QUIET_MS });
  box = await host.sandbox();
  app = createServer((request, response) => {
    if (request.url === "/mute") return;
    request.resume();
    response.writeHead(200).write("begun");
    answers.push(response);
  });
  const sockets = new WebSocketServer({ server: app });
  sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
  path = `${box}/ports/${await listening(app)}/proxy`;
});
afterAll(async () => {
  app.closeAllConnections();
  app.close();
  await host.daemon.close({ stopContainers: true });
});

const status = async () => (await host.call("GET", box)).json;
const isBusy = async () => (await status()).busy === true;
const isQuiet = async () => !(await isBusy());

describe("a connection on which nothing moves", () => {
  test("no longer counts after a while, counts again once something does, and stays", async () => {
    const headers = { "x-sandbar-signature": await host.sign("GET", path) };
    const socket = new WebSocket(`ws://127.0.0.1:${host.port}${path}`, { headers });
    await new Promise((resolve) => socket.once("open", resolve));
    const openedAt = Date.now();
    expect(await isBusy()).toBe(true);
    await until(isQuiet);
    expect(Date.now() - openedAt).toBeGreaterThanOrEqual(QUIET_MS - 50);
    // It idles from when it no longer counts, not from when something moved last.
    expect((await status()).idle_ms).toBeLessThan(QUIET_MS);
    await until(async () => Number((await status()).idle_ms) > 100);
    for (const [what, say] of [
      ["a message", () => socket.send("x")],
      ["a ping", () => socket.ping()],
    ] as const) {
      say();
      await until(isBusy);
      expect((await status()).idle_ms, what).toBe(0);
      await until(isQuiet);
    }
    const echoed = new Promise((resolve) => socket.once("message", (data) => resolve(String(data))));
    socket.send("still here");
    expect(await echoed).toBe("still here");
    socket.terminate();
    await until(isQuiet);
    expect(Number((await status()).idle_ms)).toBeLessThan(QUIET_MS);
  });

  test("is also an answer that has begun, or never does", async () => {
    const answer = await host.open("GET", path);
    const read: string[] = [];
    answer.on("data", (chunk) => read.push(String(chunk))).on("error", () => {});
    expect(await isBusy()).toBe(true);
    await until(isQuiet);
    answers.at(-1)!.write(" and more");
    await until(isBusy);
    await until(isQuiet);
    expect(read.join("")).toBe("begun and more");
    answer.destroy();
    const mute = host.open("GET", path, { headers: { "x-sandbar-target": "/mute" } });
    mute.catch(() => {});
    await until(isBusy);
    await until(isQuiet);
    app.closeAllConnections();
    await expect(mute).resolves.toMatchObject({ statusCode: 502 });
  });

  test("is not one that is written to, or read from", async () => {
    async function* body() {
      for (const giveUpAt = Date.now() + 3 * QUIET_MS; Date.now() < giveUpAt;) {
        await new Promise((wake) => setTimeout(wake, QUIET_MS / 8));
        yield Buffer.from("x");
      }
    }
    const upload = host.open("POST", path, { body: body() });
    await until(isBusy);
    let looked = 0;
    for (const lookUntil = Date.now() + 2 * QUIET_MS; Date.now() < lookUntil; looked += 1) {
      expect(await isBusy()).toBe(true);
      await new Promise((wake) => setTimeout(wake, 20));
    }
    expect(looked).toBeGreaterThan(5);
    const answer = await upload;
    answer.on("error", () => {}).destroy();
    await until(isQuiet);
  });
});
