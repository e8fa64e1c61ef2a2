import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BODY_HEADER, BODY_LENGTH_HEADER } from "../../src/contract/body-apart.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { SignedHost, until, type Answer } from "./signed-host.ts";

const MIB = 1_048_576;

let host: SignedHost;
let box: string;
let app: Server;
let port: number;
/** What the app does with each connection. */
let serve: (socket: Socket) => void;
/** All that it was sent. */
let got: Buffer[];

beforeAll(async () => {
  host = await SignedHost.start(new ChildRuntime());
  box = await host.sandbox();
});
afterAll(() => host.daemon.close({ stopContainers: true }));
beforeEach(async () => {
  got = [];
  app = createServer((socket) => {
    socket.on("error", () => {}).on("data", (part) => got.push(part as Buffer));
    serve(socket);
  });
  await once(app.listen(0, "127.0.0.1"), "listening");
  port = (app.address() as AddressInfo).port;
});
afterEach(() => app.close());

const pattern = (size: number) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 9)) & 0xff));
const sentBody = () => {
  const all = Buffer.concat(got);
  return all.subarray(all.indexOf("\r\n\r\n") + 4);
};
const headText = () => Buffer.concat(got).toString("latin1").split("\r\n\r\n", 1)[0]!.toLowerCase();
/** Answers once so many bytes of the body have come. */
const answerAfter = (bytes: number) => (socket: Socket) => {
  socket.on("data", () => {
    if (sentBody().length >= bytes) socket.end("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
  });
};

interface Opening {
  path?: string;
  signature?: string;
  more?: string;
}

/** A connection for the body of that id, and what the host says to it first. */
async function openBody(id: string, { path, signature, more = "" }: Opening = {}): Promise<[Socket, string]> {
  const target = path ?? `${box}/ports/${port}/bodies/${id}`;
  const socket = connect(host.daemon.port, "127.0.0.1");
  socket.on("error", () => {});
  const signed = signature ?? (await host.sign("PUT", target));
  socket.write(
    `PUT ${target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: sandbar-body\r\nx-sandbar-signature: ${signed}\r\n\r\n${more}`,
  );
  const [first] = (await once(socket, "data", { signal: AbortSignal.timeout(10_000) })) as [Buffer];
  return [socket, String(first).split("\r\n", 1)[0]!];
}

const request = (id: string, headers: Record<string, string> = {}): Promise<Answer> =>
  host.call("POST", `${box}/ports/${port}/proxy`, { headers: { [BODY_HEADER]: id, ...headers } });
const withLength = (length: number) => ({ [BODY_LENGTH_HEADER]: String(length) });

describe("a body that comes by itself", () => {
  test.each([1, MIB, 9 * MIB + 7])("of %i bytes reaches the app whole, and no byte more than it says", async (size) => {
    serve = answerAfter(size);
    const id = randomUUID();
    const [socket, agreed] = await openBody(id);
    expect(agreed).toBe("HTTP/1.1 101 Switching Protocols");
    socket.write(Buffer.concat([pattern(size), Buffer.from("POST / HTTP/1.1\r\n\r\n")]));
    const answer = await request(id, withLength(size));
    expect([answer.status, answer.body.toString()]).toEqual([200, "done"]);
    expect(headText().match(/content-length: .*|transfer-encoding.*/g)).toEqual([`content-length: ${size}`]);
    expect(sentBody().equals(pattern(size))).toBe(true);
  });

  test("may come before its request and after it, and faster than the app takes it", async () => {
    const size = 24 * MIB;
    serve = (socket) => {
      answerAfter(size)(socket);
      socket.pause();
      setTimeout(() => socket.resume(), 400);
    };
    const id = randomUUID();
    const [socket] = await openBody(id);
    socket.write(pattern(size).subarray(0, 8 * MIB));
    setTimeout(() => socket.write(pattern(size).subarray(8 * MIB)), 200);
    expect((await request(id, withLength(size))).status).toBe(200);
    expect(sentBody().equals(pattern(size))).toBe(true);
  });

  test("may come in many pieces, with pauses between", async () => {
    const [pieces, size] = [30, 10_007];
    serve = answerAfter(pieces * size);
    const id = randomUUID();
    const [socket] = await openBody(id);
    const asked = request(id, withLength(pieces * size));
    for (let at = 0; at < pieces; at++) {
      socket.write(pattern(pieces * size).subarray(at * size, (at + 1) * size));
      await new Promise((wake) => setTimeout(wake, 5));
    }
    expect((await asked).status).toBe(200);
    expect(sentBody().equals(pattern(pieces * size))).toBe(true);
  });

  test("goes in the chunks that it comes in, where it says no length", async () => {
    const chunks = `5\r\nhello\r\n0\r\n\r\n`;
    serve = answerAfter(chunks.length);
    const id = randomUUID();
    const [socket] = await openBody(id);
    socket.end(chunks);
    expect((await request(id)).body.toString()).toBe("done");
    expect(headText().match(/content-length: .*|transfer-encoding.*/g)).toEqual(["transfer-encoding: chunked"]);
    expect(sentBody().toString()).toBe(chunks);
  });

  const cuts: [string, Record<string, string>, Buffer | string][] = [
    ["before it begins", withLength(2 * MIB), ""],
    ["in its middle", withLength(2 * MIB), pattern(MIB)],
    ["before its first chunk", {}, ""],
    ["in the head of a chunk", {}, "5\r\nhello\r\n10"],
    ["in a chunk", {}, Buffer.concat([Buffer.from("200000\r\n"), pattern(MIB)])],
    ["before its last chunk", {}, "5\r\nhello\r\n"],
    ["with what is no chunk", {}, "hello\r\n"],
  ];
  for (const when of ["before its request comes", "after it"]) {
    for (const how of ["ended", "reset"]) {
      test.each(cuts)(`${how} ${when}, %s, is no body, and ends the app's connection`, async (_, length, bytes) => {
        let open = 0;
        serve = (socket) => {
          open += 1;
          socket.on("close", () => (open -= 1));
        };
        const id = randomUUID();
        const [socket] = await openBody(id);
        socket.write(bytes);
        const cut = () => (how === "ended" ? socket.end() : socket.resetAndDestroy());
        const asked = when === "after it" ? request(id, length) : undefined;
        await new Promise((wake) => setTimeout(wake, 100));
        cut();
        await new Promise((wake) => setTimeout(wake, 50));
        const answer = await (asked ?? request(id, length));
        expect([answer.status, answer.json.detail ?? String(answer.body)]).toEqual([
          400,
          expect.stringContaining("The body broke off."),
        ]);
        await until(async () => open === 0);
      });
    }
  }

  test("that is whole stays so when its connection breaks then", async () => {
    serve = (socket) =>
      socket.on("data", () => {
        if (sentBody().length < MIB) return;
        setTimeout(() => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"), 300);
      });
    const id = randomUUID();
    const [socket] = await openBody(id);
    socket.write(pattern(MIB));
    const asked = request(id, withLength(MIB));
    await until(async () => sentBody().length === MIB);
    socket.resetAndDestroy();
    expect((await asked).body.toString()).toBe("done");
  });

  test.each(["204 No Content", "304 Not Modified"])("leaves an early %s what it is", async (status) => {
    serve = (socket) =>
      socket.once("data", () => {
        socket.pause();
        socket.write(`HTTP/1.1 ${status}\r\n\r\n`, () => socket.resetAndDestroy());
      });
    for (let round = 0; round < 10; round++) {
      const id = randomUUID();
      const [socket] = await openBody(id);
      const sending = setInterval(() => socket.write(pattern(100_000)), 1);
      expect((await request(id, withLength(64 * MIB))).status).toBe(Number(status.slice(0, 3)));
      clearInterval(sending);
      socket.destroy();
    }
  });

  test("does not make whole what the app has answered without its end", async () => {
    serve = (socket) =>
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\npart");
        socket.pause();
        setTimeout(() => socket.resetAndDestroy(), 50);
      });
    for (let round = 0; round < 20; round++) {
      const id = randomUUID();
      const [socket] = await openBody(id);
      const sending = setInterval(() => socket.write(pattern(100_000)), 1);
      await expect(request(id, withLength(64 * MIB))).rejects.toThrow(/aborted|hang up|ECONNRESET/);
      clearInterval(sending);
      socket.destroy();
    }
  });

  test("of which the app has enough leaves its answer whole", async () => {
    serve = (socket) =>
      socket.once("data", () =>
        socket.end(`HTTP/1.1 413 No\r\nContent-Length: ${4 * MIB}\r\n\r\n${"x".repeat(4 * MIB)}`),
      );
    const id = randomUUID();
    const [socket] = await openBody(id);
    socket.write(pattern(16 * MIB));
    const answer = await request(id, withLength(64 * MIB));
    expect([answer.status, answer.body.length]).toEqual([413, 4 * MIB]);
    if (!socket.closed) await once(socket, "close", { signal: AbortSignal.timeout(10_000) });
  });

  test("leaves nothing open, however it ends", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    serve = (socket) => setTimeout(() => socket.destroy(), 20);
    const before = open();
    for (let round = 0; round < 20; round++) {
      const id = randomUUID();
      const [socket] = await openBody(id);
      socket.write(pattern(MIB));
      if (round % 2) setTimeout(() => socket.destroy(), round);
      expect([400, 502]).toContain((await request(id, withLength(4 * MIB))).status);
      socket.destroy();
    }
    await until(async () => open() <= before + 2);
  });
});

describe("the connection of a body", () => {
  const statusOf = async (id: string, opening?: Opening) => {
    const [socket, first] = await openBody(id, opening);
    socket.destroy();
    return first.split(" ")[1];
  };

  test("is refused unsigned, for a sandbox that is not there, twice, and with more than its head", async () => {
    const id = randomUUID();
    expect(await statusOf(id, { signature: "none" })).toBe("401");
    const elsewhere = `/v1/sandboxes/sb-${"a".repeat(22)}/ports/${port}/bodies/${id}`;
    expect(await statusOf(id, { path: elsewhere })).toBe("409");
    expect(await statusOf("no-uuid")).toBe("404");
    expect(await statusOf(id, { more: "body" })).toBe("400");
    const [first, agreed] = await openBody(id);
    expect([agreed.split(" ")[1], await statusOf(id)]).toEqual(["101", "409"]);
    first.destroy();
  });

  test("is known to no other port and sandbox, and to its own once", async () => {
    serve = (socket) => socket.destroy();
    const id = randomUUID();
    const [socket] = await openBody(id);
    const other = await host.sandbox();
    const ask = (of: string, at: number) =>
      host.call("POST", `${of}/ports/${at}/proxy`, { headers: { [BODY_HEADER]: id, ...withLength(1) } });
    expect((await ask(other, port)).status).toBe(400);
    expect((await ask(box, port === 1 ? 2 : port - 1)).status).toBe(400);
    expect((await ask(box, port)).status).toBe(502);
    expect((await ask(box, port)).status).toBe(400);
    socket.destroy();
  });

  test("needs a length that is one", async () => {
    const answer = await request(randomUUID(), { [BODY_LENGTH_HEADER]: "-1" });
    expect(answer.status).toBe(400);
  });
});
