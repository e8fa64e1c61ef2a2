import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import {
  connect,
  createServer as createNetServer,
  type AddressInfo,
  type Server as NetServer,
  type Socket,
} from "node:net";
import { setImmediate } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { HttpForward, type ForwardOptions } from "../../../src/host/network/http-forward.ts";
import { sniff } from "../../../src/host/network/sniff.ts";
import { closed, heard } from "./gated-box.ts";

/** What the origin does with a request, after it has noted it. */
type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const echo: Answer = (request, response) => {
  const chunks: Buffer[] = [];
  request.on("data", (chunk: Buffer) => chunks.push(chunk));
  request.on("end", () => response.end(`${request.url} ${Buffer.concat(chunks).toString()};`));
};

let origin: Server;
let front: NetServer;
let answer: Answer;
let options: ForwardOptions;
let allowed: string[];
/** `METHOD host target` of what came to the origin, and how many connections did. */
let seen: string[] = [];
let connections = 0;
let lastHeaders: IncomingMessage["headers"] = {};
const sockets = new Set<Socket>();
const fronts: Socket[] = [];

const portOf = (server: NetServer) => (server.address() as AddressInfo).port;
const listening = async <S extends NetServer>(server: S): Promise<S> => {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
};

const dialOrigin = async () => {
  const socket = connect(portOf(origin), "127.0.0.1");
  await once(socket, "connect");
  return socket;
};

beforeAll(async () => {
  origin = createServer((request, response) => {
    seen.push(`${request.method} ${request.headers.host} ${request.url}`);
    lastHeaders = request.headers;
    answer(request, response);
  });
  origin.on("connection", () => connections++);
  origin.on("upgrade", (request, socket: Socket, head) => {
    seen.push(`${request.method} ${request.headers.host} ${request.url} upgrade`);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    socket.write(head);
    socket.on("error", () => {}).pipe(socket);
  });
  await listening(origin);
  front = await listening(
    createNetServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      fronts.push(socket);
      // As in the gate: its first bytes were read before, and are there again.
      void sniff(socket, 200).then(() => new HttpForward(socket, options));
    }),
  );
});
afterAll(() => {
  origin.close();
  front.close();
});

beforeEach(() => {
  answer = echo;
  allowed = ["a.test", "b.test"];
  options = { scheme: "http", allows: (name) => allowed.includes(name), dial: dialOrigin };
  [seen, connections] = [[], 0];
});
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

const open = async (...parts: string[]): Promise<Socket> => {
  const socket = connect({ port: portOf(front), host: "127.0.0.1", allowHalfOpen: true });
  sockets.add(socket.on("error", () => {}));
  await once(socket, "connect");
  for (const part of parts) {
    socket.write(part, "latin1");
    await setImmediate();
  }
  return socket;
};
const get = (host: string, path = "/", more = "") => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${more}\r\n`;
const statuses = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => Number(status));

test("each request of a connection is judged, and goes over one connection as long as it is for one domain", async () => {
  const socket = await open(get("a.test", "/1"));
  expect(await heard(socket, "/1 ;")).toContain("200 OK");
  socket.write(get("evil.test", "/2"));
  expect(await heard(socket, "\n")).toMatch(/^HTTP\/1.1 403 [^]*evil\.test/);
  socket.write(get("A.test.:80", "/3"));
  expect(await heard(socket, "/3 ;")).toContain("200 OK");
  socket.write(`POST /4 HTTP/1.1\r\nHost: b.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n`);
  expect(await heard(socket, "/4 abc;")).toContain("200 OK");
  expect(seen).toEqual(["GET a.test /1", "GET A.test.:80 /3", "POST b.test /4"]);
  expect(connections).toBe(2);
});

test("requests that do not wait for answers are answered in order, each by the rules", async () => {
  const socket = await open(
    get("a.test", "/1") + get("evil.test", "/2") + get("b.test", "/3", "Connection: close\r\n"),
  );
  const text = await heard(socket);
  expect(statuses(text)).toEqual([200, 403, 200]);
  expect(text.indexOf("/1 ;")).toBeLessThan(text.indexOf("/3 ;"));
  expect(seen).toEqual(["GET a.test /1", "GET b.test /3"]);
});

test("a client that never waits is cut off", async () => {
  answer = () => {};
  const socket = await open(get("a.test").repeat(200));
  expect(await heard(socket)).toBe("reset");
  expect(seen.length).toBeLessThanOrEqual(1);
});

test.each([
  [
    "a request of another length to the next reader",
    "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
  ],
  ["two lengths", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"],
  ["a coding that is not known", "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"],
  ["a space before the colon", "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length : 5\r\n\r\nhello"],
  ["a folded header", "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\r\n Host: evil.test\r\n\r\n"],
  ["a line feed alone", "GET / HTTP/1.1\nHost: a.test\n\n"],
  ["a return within a header", "GET / HTTP/1.1\r\nHost: a.test\r\nX: y\rHost: evil.test\r\n\r\n"],
  ["two hosts", "GET / HTTP/1.1\r\nHost: a.test\r\nHost: evil.test\r\n\r\n"],
  ["the same host twice", "GET / HTTP/1.1\r\nHost: a.test\r\nhost: a.test\r\n\r\n"],
  ["no host", "GET / HTTP/1.1\r\n\r\n"],
  ["no host, of an old client", "GET / HTTP/1.0\r\n\r\n"],
  ["a target that names another host", "GET http://evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"],
  ["a target with a user", "GET http://a.test@evil.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"],
  ["a target of another scheme", "GET https://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"],
  ["an address as host", "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"],
  ["an address in hexadecimal as host", "GET / HTTP/1.1\r\nHost: 0x7f000001\r\n\r\n"],
  ["an address of IPv6 as host", "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"],
  ["a host with a list", "GET / HTTP/1.1\r\nHost: a.test, evil.test\r\n\r\n"],
  ["a host with a path", "GET / HTTP/1.1\r\nHost: a.test/evil\r\n\r\n"],
  ["too large headers", `GET / HTTP/1.1\r\nHost: a.test\r\nX: ${"y".repeat(20_000)}\r\n\r\n`],
])("refused: %s", async (_, request) => {
  const socket = await open(request);
  expect(statuses(await heard(socket, "\n"))[0]).toBeGreaterThanOrEqual(400);
  expect(seen).toEqual([]);
});

test("a target in full is for the host that it names", async () => {
  const socket = await open("GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n");
  expect(await heard(socket, "/x?y ;")).toContain("200 OK");
  socket.write("GET HTTP://A.test?y HTTP/1.1\r\nHost: a.TEST\r\n\r\n");
  expect(await heard(socket, "/?y ;")).toContain("200 OK");
});

test("a tunnel is refused", async () => {
  const socket = await open("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n");
  expect(await heard(socket)).toMatch(/^HTTP\/1.1 405 /);
  expect(connections).toBe(0);
});

const upgrade = (host: string, protocol: string) => get(host, "/up", `Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`);

test("a connection that is upgraded passes bytes as they are, also those sent at once", async () => {
  const socket = await open(`${upgrade("a.test", "echo")}early `);
  expect(await heard(socket, "early ")).toMatch(/^HTTP\/1.1 101 [^]*upgrade: echo/i);
  socket.end("late");
  expect(await heard(socket)).toBe("late");
  expect(seen).toEqual(["GET a.test /up upgrade"]);
  const refused = await open(upgrade("evil.test", "echo"));
  expect(await heard(refused)).toMatch(/^HTTP\/1.1 403 /);
});

test("what follows an upgrade that is not agreed to reaches nobody", async () => {
  const other = createServer((_, response) => response.end("no"));
  const requests: string[] = [];
  other.on("request", ({ headers }) => requests.push(headers.host!));
  await listening(other);
  options.dial = async () => connect(portOf(other), "127.0.0.1");
  const socket = await open(upgrade("a.test", "echo") + get("evil.test"));
  expect(await heard(socket)).toMatch(/^HTTP\/1.1 200 [^]*connection: close[^]*no$/i);
  expect(requests).toEqual(["a.test"]);
  other.close();
});

test("HTTP/2 is not switched to, and the request answered", async () => {
  const settings =
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
  const socket = await open(get("a.test", "/h2c", settings));
  expect(await heard(socket, "/h2c ;")).toMatch(/^HTTP\/1.1 200 /);
  expect(lastHeaders).not.toHaveProperty("upgrade");
});

test("a body passes as it comes, both ways", async () => {
  answer = (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
    request.on("data", (chunk: Buffer) => response.write(`got ${chunk.toString()}\n`));
    request.on("end", () => response.end("end"));
  };
  const socket = await open("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
  expect(await heard(socket, "\r\n\r\n")).toContain("text/event-stream");
  for (const word of ["one", "two"]) {
    socket.write(`3\r\n${word}\r\n`);
    expect(await heard(socket, "\n")).toContain(`got ${word}`);
  }
  socket.write("0\r\n\r\n");
  expect(await heard(socket, "0\r\n\r\n")).toContain("end");
});

test("a large upload and a large answer are whole", async () => {
  let bytes = 0;
  const size = 20 * 2 ** 20;
  answer = (request, response) => {
    request.on("data", (chunk: Buffer) => (bytes += chunk.length));
    request.on("end", () => response.end(Buffer.alloc(size)));
  };
  const socket = await open(`PUT / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nContent-Length: ${size}\r\n\r\n`);
  socket.write(Buffer.alloc(size));
  let got = 0;
  for await (const chunk of socket) got += (chunk as Buffer).length;
  expect([bytes, got > size]).toEqual([size, true]);
});

test("headers are added in the place of the sandbox's own, and those of the connection are not passed on", async () => {
  options.added = (name) => (name === "a.test" ? [["authorization", "Bearer real"]] : []);
  const own =
    "Authorization: Bearer own\r\nX-Kept: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nProxy-Authorization: x\r\n";
  const socket = await open(get("a.test", "/", own));
  await heard(socket, ";");
  expect(lastHeaders).toMatchObject({ authorization: "Bearer real", "x-kept": "1", host: "a.test" });
  for (const name of ["x-hop", "proxy-authorization"]) expect(lastHeaders).not.toHaveProperty(name);
  socket.write(get("b.test", "/", own));
  await heard(socket, ";");
  expect(lastHeaders).toMatchObject({ authorization: "Bearer own" });
});

test.for(["GET", "DELETE"])(
  "the body of a %s stays one, also where its length is said to be of the connection",
  async (method) => {
    const inside = "POST /inside HTTP/1.1\r\nHost: c.test\r\nContent-Length: 0\r\n\r\n";
    options = { ...options, added: () => [["authorization", "Bearer secret"]] };
    const request = [
      `${method} /1 HTTP/1.1`,
      "Host: a.test",
      "Connection: keep-alive, Content-Length, host",
      `Content-Length: ${inside.length}`,
    ];
    const socket = await open(`${request.join("\r\n")}\r\n\r\n${inside}`, "GET /2 HTTP/1.1\r\nHost: a.test\r\n\r\n");
    expect(await heard(socket, "/2 ;")).toContain(inside);
    expect(seen).toEqual([`${method} a.test /1`, "GET a.test /2"]);
  },
);

test("an answer that HTTP does not know is a reset, and one with a strange reason passes without it", async () => {
  const answered = async (head: string) => {
    answer = (_, { socket }) => socket!.end(`${head}\r\nContent-Length: 2\r\n\r\nok`, "latin1");
    return heard(await open(get("a.test")), "ok");
  };
  expect(await answered("HTTP/1.1 099 What")).toBe("reset");
  expect(await answered("HTTP/1.1 000 What")).toBe("reset");
  expect(await answered("HTTP/1.1 200 a\x01b")).toMatch(/^HTTP\/1\.1 200 OK\r\n.*ok$/s);
  expect(await answered("HTTP/1.1 299 \x7f")).toMatch(/^HTTP\/1\.1 299 \r\n.*ok$/s);
});

test("a connection that the other side ends is ended, and an answer that breaks off breaks off", async () => {
  const socket = await open(get("a.test"));
  await heard(socket, ";");
  origin.closeIdleConnections();
  expect(await heard(socket)).toBe("");
  answer = (request, response) => {
    response.writeHead(200, { "content-length": 10 }).write("half");
    setTimeout(() => request.socket.destroy(), 20);
  };
  expect(await heard(await open(get("a.test")))).toMatch(/halfreset$/);
  answer = (request) => request.socket.destroy();
  expect(await heard(await open(get("a.test")), "\n")).toMatch(/^HTTP\/1.1 502 /);
});

test("what cannot be reached is said, and the connection goes on", async () => {
  const fails = (code: string) => () => Promise.reject(Object.assign(new Error(code), { code }));
  const socket = await open();
  for (const [code, status] of Object.entries({ EACCES: 403, ENOTFOUND: 502, ECONNREFUSED: 502, ETIMEDOUT: 504 })) {
    options.dial = fails(code);
    socket.write(get("a.test"));
    expect(statuses(await heard(socket, "\r\n\r\n")), code).toEqual([status]);
  }
  options.dial = dialOrigin;
  socket.write(get("a.test"));
  expect(await heard(socket, ";")).toContain(" 200 ");
});

test("a request is not sent when the rules change while it is dialled, nor one that waits for its turn", async () => {
  options.dial = async () => {
    allowed = ["b.test"];
    return dialOrigin();
  };
  const socket = await open(get("a.test") + get("a.test"));
  expect(statuses(await heard(socket, /403[^]*403[^]*\.\n/))).toEqual([403, 403]);
  expect(seen).toEqual([]);
});

test("nothing is left of a connection whose client has gone", async () => {
  const ended = Promise.withResolvers<void>();
  answer = (request) => request.socket.once("close", () => ended.resolve());
  const socket = await open(get("a.test"));
  await expect.poll(() => seen).toHaveLength(1);
  socket.destroy();
  await ended.promise;
  await Promise.all(fronts.map((one) => closed(one)));
});

test("nothing is left of a client that has gone while its domain was dialled, however late that is done", async () => {
  const [dialled, goesOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const upstream = Promise.withResolvers<Socket>();
  options = {
    ...options,
    dial: async () => {
      dialled.resolve();
      await goesOn.promise;
      const socket = await dialOrigin();
      upstream.resolve(socket);
      return socket;
    },
  };
  const socket = await open(get("a.test"));
  await dialled.promise;
  const front = fronts.at(-1)!;
  socket.destroy();
  await closed(front);
  goesOn.resolve();
  await closed(await upstream.promise);
  expect(seen).toEqual([]);
});
