import { once } from "node:events";
import { createServer, get, request as httpRequest, type IncomingMessage } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { passBody } from "../../src/host/bulk-answer.ts";
import { forwardRequest } from "../../src/host/proxy.ts";
import type { Container } from "../../src/host/runtime.ts";
import { until } from "./signed-host.ts";

const MIB = 1_048_576;

/** What the app does with a connection once a request has come. */
let answer: (socket: Socket, request: string) => void;
let app: Server;
let proxy: ReturnType<typeof createServer>;
/** The connections that the app has. */
const sockets = new Set<Socket>();
let moves: number;

const portOf = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
const pattern = (size: number) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 9)) & 0xff));
const headOf = (size: number) => `HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\nX-App: yes\r\n\r\n`;

beforeEach(async () => {
  moves = 0;
  app = createTcpServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket)).on("error", () => {});
    socket.once("data", (data) => answer(socket, data.toString()));
  });
  await once(app.listen(0, "127.0.0.1"), "listening");
  const container = {
    dial: async () => {
      const socket = connect(portOf(app), "127.0.0.1");
      await once(socket, "connect");
      return socket;
    },
  } as unknown as Container;
  proxy = createServer((request, response) => {
    request.headers["x-sandbar-target"] ??= request.url;
    forwardRequest(container, 1, request, response, () => moves++).catch((error: Error) => response.end(error.message));
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
});
afterEach(() => {
  for (const server of [proxy, app]) server.close();
  proxy.closeAllConnections();
  for (const socket of sockets) socket.destroy();
});

const ask = (method = "GET") =>
  new Promise<IncomingMessage>((resolve, reject) => {
    const options = { port: portOf(proxy), host: "127.0.0.1", path: "/", method };
    get(options, resolve).on("error", reject);
  });

async function bodyOf(message: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of message) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

test.each([MIB, MIB + 1, 9 * MIB + 7])("a body of %i bytes passes whole", async (size) => {
  answer = (socket) => socket.write(Buffer.concat([Buffer.from(headOf(size)), pattern(size)]));
  const message = await ask();
  expect([message.statusCode, message.headers["x-app"], message.headers["content-length"]]).toEqual([
    200,
    "yes",
    `${size}`,
  ]);
  expect((await bodyOf(message)).equals(pattern(size))).toBe(true);
  expect(moves).toBeGreaterThan(1);
  await until(async () => sockets.size === 0);
});

test.each([0, 1, 1000])(
  "one whose first %i bytes come with the head, and the rest in pieces, passes whole",
  async (first) => {
    const body = pattern(2 * MIB);
    answer = async (socket) => {
      socket.write(Buffer.concat([Buffer.from(headOf(body.length)), body.subarray(0, first)]));
      for (let at = first; at < body.length; at += 333_333) {
        await new Promise((wake) => setTimeout(wake, 2));
        socket.write(body.subarray(at, Math.min(body.length, at + 333_333)));
      }
    };
    expect((await bodyOf(await ask())).equals(body)).toBe(true);
  },
);

test("what comes beyond the length is not passed on", async () => {
  answer = (socket) =>
    socket.write(Buffer.concat([Buffer.from(headOf(2 * MIB)), pattern(2 * MIB), Buffer.from("more")]));
  expect((await bodyOf(await ask())).equals(pattern(2 * MIB))).toBe(true);
});

test.each(["end", "resetAndDestroy"] as const)("one that breaks off (%s) is not taken for whole", async (how) => {
  answer = (socket) =>
    socket.write(Buffer.concat([Buffer.from(headOf(4 * MIB)), pattern(3 * MIB)]), () => socket[how]());
  await expect(ask().then(bodyOf)).rejects.toThrow("aborted");
});

test("an app is no faster than its client, and is left when that goes", async () => {
  const size = 256 * MIB;
  let sent = 0;
  answer = async (socket) => {
    socket.write(headOf(size));
    const piece = pattern(MIB);
    for (; sent < size && !socket.destroyed; sent += MIB) {
      if (!socket.write(piece)) await Promise.race([once(socket, "drain"), once(socket, "close")]).catch(() => {});
    }
  };
  const message = await ask();
  message.once("data", () => message.pause());
  let before = -1;
  await until(async () => {
    const isStill = sent === before;
    before = sent;
    await new Promise((wake) => setTimeout(wake, 100));
    return isStill && sent > 0;
  });
  expect(sent).toBeLessThan(64 * MIB);
  message.destroy();
  await until(async () => sockets.size === 0);
});

test("an answer to HEAD has a length and no body", async () => {
  answer = (socket) => socket.end(headOf(5 * MIB));
  const message = await ask("HEAD");
  expect(message.headers["content-length"]).toBe(`${5 * MIB}`);
  expect((await bodyOf(message)).length).toBe(0);
});

test("one that begins before its question is at an end passes beside it", async () => {
  const size = 3 * MIB;
  answer = (socket, head) => {
    let received = head.length - head.indexOf("\r\n\r\n") - 4;
    socket.write(headOf(size));
    socket.on("data", (data) => {
      received += data.length;
      if (received >= size) socket.write(pattern(size));
    });
  };
  const request = httpRequest({
    port: portOf(proxy),
    host: "127.0.0.1",
    method: "POST",
    headers: { "content-length": size },
  });
  request.write(Buffer.alloc(1000));
  const [message] = (await once(request, "response")) as [IncomingMessage];
  request.end(Buffer.alloc(size - 1000));
  expect((await bodyOf(message)).equals(pattern(size))).toBe(true);
});

test.each([
  ["without a length", "HTTP/1.1 200 OK\r\n\r\npart", "aborted"],
  ["with a length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npart", "part"],
  ["in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n\r\n", "part"],
])("an answer %s is whole or not, where others heard that its connection broke", async (_, text, expected) => {
  answer = (socket) => socket.end(text);
  const between = createServer((_request, response) => {
    const upstream = get({ port: portOf(app), host: "127.0.0.1" }, (message) => {
      response.writeHead(message.statusCode!);
      response.flushHeaders();
      passBody({ upstream, answer: message, response, moved: () => {}, hasBroken: () => true });
    });
  });
  await once(between.listen(0, "127.0.0.1"), "listening");
  const asked = new Promise<IncomingMessage>((resolve, reject) => {
    get({ port: portOf(between), host: "127.0.0.1" }, resolve).on("error", reject);
  });
  const got = await asked.then(bodyOf).then(String, (error: Error) => error.message);
  expect(got).toBe(expected);
  between.close();
});
