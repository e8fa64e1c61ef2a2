import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BodyHost, MIB, pattern, withLength } from "./body-host.ts";

const under = new BodyHost();

beforeAll(() => under.start());
afterAll(() => under.host.daemon.close({ stopContainers: true }));
beforeEach(() => under.listen());
afterEach(() => under.closeApp());

describe("a body that comes by itself", () => {
  test.each([1, MIB, 9 * MIB + 7])("of %i bytes reaches the app whole, and no byte more than it says", async (size) => {
    under.serve = under.answerAfter(size);
    const id = randomUUID();
    const [socket, agreed] = await under.open(id);
    expect(agreed).toBe("HTTP/1.1 101 Switching Protocols");
    socket.write(Buffer.concat([pattern(size), Buffer.from("POST / HTTP/1.1\r\n\r\n")]));
    const answer = await under.request(id, withLength(size));
    expect([answer.status, answer.body.toString()]).toEqual([200, "done"]);
    expect(under.framing).toEqual([`content-length: ${size}`]);
    expect(under.body.equals(pattern(size))).toBe(true);
  });

  test("may come before its request and after it, and faster than the app takes it", async () => {
    const size = 24 * MIB;
    under.serve = (socket) => {
      under.answerAfter(size)(socket);
      socket.pause();
      setTimeout(() => socket.resume(), 400);
    };
    const id = randomUUID();
    const [socket] = await under.open(id);
    socket.write(pattern(size).subarray(0, 8 * MIB));
    setTimeout(() => socket.write(pattern(size).subarray(8 * MIB)), 200);
    expect((await under.request(id, withLength(size))).status).toBe(200);
    expect(under.body.equals(pattern(size))).toBe(true);
  });

  test("may come in many pieces, with pauses between", async () => {
    const [pieces, size] = [30, 10_007];
    under.serve = under.answerAfter(pieces * size);
    const id = randomUUID();
    const [socket] = await under.open(id);
    const asked = under.request(id, withLength(pieces * size));
    for (let at = 0; at < pieces; at++) {
      socket.write(pattern(pieces * size).subarray(at * size, (at + 1) * size));
      await new Promise((wake) => setTimeout(wake, 5));
    }
    expect((await asked).status).toBe(200);
    expect(under.body.equals(pattern(pieces * size))).toBe(true);
  });

  test("goes in the chunks that it comes in, where it says no length", async () => {
    const chunks = `5\r\nhello\r\n0\r\n\r\n`;
    under.serve = under.answerAfter(chunks.length);
    const id = randomUUID();
    const [socket] = await under.open(id);
    socket.end(chunks);
    expect((await under.request(id)).body.toString()).toBe("done");
    expect(under.framing).toEqual(["transfer-encoding: chunked"]);
    expect(under.body.toString()).toBe(chunks);
  });

  test("of which the app has enough leaves its answer whole", async () => {
    under.serve = (socket) =>
      socket.once("data", () =>
        socket.end(`HTTP/1.1 413 No\r\nContent-Length: ${4 * MIB}\r\n\r\n${"x".repeat(4 * MIB)}`),
      );
    const id = randomUUID();
    const [socket] = await under.open(id);
    socket.write(pattern(16 * MIB));
    const answer = await under.request(id, withLength(64 * MIB));
    expect([answer.status, answer.body.length]).toEqual([413, 4 * MIB]);
    if (!socket.closed) await once(socket, "close", { signal: AbortSignal.timeout(10_000) });
  });
});
