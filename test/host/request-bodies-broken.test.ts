import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BodyHost, MIB, pattern, withLength, type Opening } from "./body-host.ts";
import { BODY_LENGTH_HEADER } from "../../src/contract/body-apart.ts";
import { until } from "./signed-host.ts";

const under = new BodyHost();

beforeAll(() => under.start());
afterAll(() => under.host.daemon.close({ stopContainers: true }));
beforeEach(() => under.listen());
afterEach(() => under.closeApp());

describe("a body that comes by itself", () => {
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
        under.serve = (socket) => {
          open += 1;
          socket.on("close", () => (open -= 1));
        };
        const id = randomUUID();
        const [socket] = await under.open(id);
        socket.write(bytes);
        const cut = () => (how === "ended" ? socket.end() : socket.resetAndDestroy());
        const asked = when === "after it" ? under.request(id, length) : undefined;
        await new Promise((wake) => setTimeout(wake, 100));
        cut();
        await new Promise((wake) => setTimeout(wake, 50));
        const answer = await (asked ?? under.request(id, length));
        expect([answer.status, answer.json.detail ?? String(answer.body)]).toEqual([
          400,
          expect.stringContaining("The body broke off."),
        ]);
        await until(async () => open === 0);
      });
    }
  }

  test("that is whole stays so when its connection breaks then", async () => {
    under.serve = under.answerAfter(MIB, 300);
    const id = randomUUID();
    const [socket] = await under.open(id);
    socket.write(pattern(MIB));
    const asked = under.request(id, withLength(MIB));
    await until(async () => under.body.length === MIB);
    socket.resetAndDestroy();
    expect((await asked).body.toString()).toBe("done");
  });

  test("does not make whole what the app has answered without its end", async () => {
    under.serve = (socket) =>
      socket.once("data", () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\npart");
        socket.pause();
        setTimeout(() => socket.resetAndDestroy(), 50);
      });
    for (let round = 0; round < 20; round++) {
      const id = randomUUID();
      const [socket] = await under.open(id);
      const sending = setInterval(() => socket.write(pattern(100_000)), 1);
      await expect(under.request(id, withLength(64 * MIB))).rejects.toThrow(/aborted|hang up|ECONNRESET/);
      clearInterval(sending);
      socket.destroy();
    }
  });

  test("leaves nothing open, however it ends", async () => {
    const open = () => readdirSync("/proc/self/fd").length;
    under.serve = (socket) => setTimeout(() => socket.destroy(), 20);
    const before = open();
    for (let round = 0; round < 20; round++) {
      const id = randomUUID();
      const [socket] = await under.open(id);
      socket.write(pattern(MIB));
      if (round % 2) setTimeout(() => socket.destroy(), round);
      expect([400, 502]).toContain((await under.request(id, withLength(4 * MIB))).status);
      socket.destroy();
    }
    await until(async () => open() <= before + 2);
  });
});

describe("the connection of a body", () => {
  const statusOf = async (id: string, opening?: Opening) => {
    const [socket, first] = await under.open(id, opening);
    socket.destroy();
    return first.split(" ")[1];
  };

  test("is refused unsigned, for a sandbox that is not there, twice, and with more than its head", async () => {
    const id = randomUUID();
    expect(await statusOf(id, { signature: "none" })).toBe("401");
    const elsewhere = `/v1/sandboxes/sb-${"a".repeat(22)}/ports/${under.port}/bodies/${id}`;
    expect(await statusOf(id, { path: elsewhere })).toBe("409");
    expect(await statusOf("no-uuid")).toBe("404");
    expect(await statusOf(id, { more: "body" })).toBe("400");
    const [first, agreed] = await under.open(id);
    expect([agreed.split(" ")[1], await statusOf(id)]).toEqual(["101", "409"]);
    first.destroy();
  });

  test("is known to no other port and sandbox, and to its own once", async () => {
    under.serve = (socket) => socket.destroy();
    const id = randomUUID();
    const [socket] = await under.open(id);
    const other = await under.host.sandbox();
    const ask = async (at = {}) => (await under.request(id, withLength(1), at)).status;
    expect(await ask({ box: other })).toBe(400);
    expect(await ask({ port: under.port - 1 })).toBe(400);
    expect(await ask()).toBe(502);
    expect(await ask()).toBe(400);
    socket.destroy();
  });

  test("needs a length that is one", async () => {
    const answer = await under.request(randomUUID(), { [BODY_LENGTH_HEADER]: "-1" });
    expect(answer.status).toBe(400);
  });
});
