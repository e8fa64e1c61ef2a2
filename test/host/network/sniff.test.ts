import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { Duplex } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openingOf, sniff } from "../../../src/host/network/sniff.ts";
import { readHello } from "../../../src/host/network/tls-hello.ts";
import { heard } from "./gated-box.ts";

/** The hello that a client really says. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const said = Promise.withResolvers<Buffer>();
  const stream = new Duplex({ read() {}, write: (chunk: Buffer) => said.resolve(chunk) });
  connectTls({ socket: stream, ...options }).on("error", () => {});
  return said.promise;
}

const u16 = (value: number) => [value >> 8, value & 255];
const u24 = (value: number) => [value >> 16, ...u16(value & 65_535)];
const entry = (type: number, name: string) => [type, ...u16(name.length), ...Buffer.from(name, "latin1")];
const serverName = (...entries: number[][]) => [
  ...u16(0),
  ...u16(entries.flat().length + 2),
  ...u16(entries.flat().length),
  ...entries.flat(),
];
const message = (...extensions: number[][]) => {
  const body = [
    3,
    3,
    ...Array.from({ length: 32 }, () => 1),
    0,
    ...u16(2),
    0x13,
    1,
    1,
    0,
    ...u16(extensions.flat().length),
    ...extensions.flat(),
  ];
  return [1, ...u24(body.length), ...body];
};
const record = (bytes: number[]) => [22, 3, 1, ...u16(bytes.length), ...bytes];
const named = (name: string) => message(serverName(entry(0, name)));

describe("a hello of TLS", () => {
  test.each([{}, { maxVersion: "TLSv1.2" }, { ALPNProtocols: ["h2", "http/1.1"] }] satisfies ConnectionOptions[])(
    "of a client with %j names its host",
    async (more) => {
      const hello = await helloOf({ servername: "a.test", ...more });
      expect(readHello(hello)).toEqual({ name: "a.test" });
      for (let length = 0; length < hello.length; length++)
        expect(readHello(hello.subarray(0, length))).toBe("partial");
      expect(openingOf(Buffer.concat([hello, Buffer.from("early data")]))).toEqual({ kind: "tls", name: "a.test" });
    },
  );

  test("in several records is one all the same", () => {
    const whole = named("a.test");
    const parts = [whole.slice(0, 3), whole.slice(3, 60), whole.slice(60)];
    expect(readHello(Buffer.from(parts.flatMap(record)))).toEqual({ name: "a.test" });
    expect(readHello(Buffer.from(parts.slice(0, 2).flatMap(record)))).toBe("partial");
  });

  test.each<[string, number[]]>([
    ["no name", record(message())],
    ["two names", record(message(serverName(entry(0, "a.test"), entry(0, "b.test"))))],
    ["a second name of another kind", record(message(serverName(entry(0, "a.test"), entry(1, "b.test"))))],
    ["two lists", record(message(serverName(entry(0, "a.test")), serverName(entry(0, "b.test"))))],
    ["an empty list", record(message(serverName()))],
    [
      "bytes behind it within the message",
      record([
        1,
        ...u24(200),
        ...named("a.test").slice(4),
        ...Array.from({ length: 200 - named("a.test").length + 4 }, () => 0),
      ]),
    ],
    [
      "a length beyond the message",
      record(named("a.test").map((byte, at, all) => (at === all.length - 7 ? 200 : byte))),
    ],
    ["another message first", record([2, ...u24(1), 0])],
    ["an alert between its parts", [...record(named("a.test").slice(0, 20)), 21, 3, 1, ...u16(2), 1, 0]],
    ["an empty record", [...record(named("a.test").slice(0, 20)), ...record([])]],
    ["a record for each byte", named("a.test").flatMap((byte) => record([byte]))],
    ["a version of its own", [22, 2, 0, ...u16(4), 1, 0, 0, 0]],
    ["the old form", [0x80, 0x2e, 1, 3, 1]],
  ])("with %s is none", (_, bytes) => {
    expect(readHello(Buffer.from(bytes))).toBe("none");
    expect(openingOf(Buffer.from(bytes))).toEqual({ kind: "other" });
  });

  test.each([
    "127.0.0.1",
    "::1",
    "",
    "a..test",
    "a test",
    "a.test\0.evil.test",
    "*.test",
    "ä.test",
    `${"a".repeat(64)}.test`,
    "0x7f000001",
  ])("for %j is for no domain", (name) => {
    expect(openingOf(Buffer.from(record(named(name))))).toEqual({ kind: "other" });
  });

  test("counts without its case and a final dot", () => {
    expect(openingOf(Buffer.from(record(named("A.Test."))))).toEqual({ kind: "tls", name: "a.test" });
  });
});

test.each([
  ["GET / HTTP/1.1\r\n", "http"],
  ["POST http://a.test/", "http"],
  ["M-SEARCH *", "http"],
  ["\r\nGET /", "http"],
  ["GE", undefined],
  ["GET", undefined],
  ["GET ", undefined],
  ["", undefined],
  ["\r", undefined],
  ["PRI * HTTP/2.0\r\n", "other"],
  ["get /", "other"],
  ["GET  /", "other"],
  ["SSH-2.0-OpenSSH", "other"],
  [" GET /", "other"],
  ["A".repeat(40), "other"],
  ["\0\0\0\x08\x04\xd2\x16\x2f", "other"],
])("%j begins %s", (text, kind) => {
  expect(openingOf(Buffer.from(text, "latin1"))?.kind).toBe(kind);
});

describe("a connection that is looked at", () => {
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  beforeAll(async () => {
    await once(server.listen(0, "127.0.0.1"), "listening");
  });
  afterAll(() => server.close());
  const pair = async (): Promise<{ client: Socket; accepted: Socket }> => {
    const accepting = once(server, "connection") as Promise<[Socket]>;
    const client = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
    client.on("error", () => {});
    const [accepted] = await accepting;
    return { client, accepted: accepted.on("error", () => {}) };
  };

  test("has all of its bytes still, also where they came one by one", async () => {
    const { client, accepted } = await pair();
    const opening = sniff(accepted, 5_000);
    const hello = Buffer.from(record(named("a.test")));
    for (const byte of hello) {
      client.write(Buffer.from([byte]));
      await new Promise((wake) => setImmediate(wake));
    }
    expect(await opening).toEqual({ kind: "tls", name: "a.test" });
    expect(accepted.isPaused()).toBe(true);
    client.end("more");
    expect(await heard(accepted)).toBe(`${hello.toString("latin1")}more`);
    client.destroy();
  });

  test("has them also where its half ends with them", async () => {
    const { client, accepted } = await pair();
    client.end("GET / HTTP/1.1\r\n\r\n");
    await once(client, "finish");
    expect(await sniff(accepted, 5_000)).toEqual({ kind: "http" });
    expect(await heard(accepted)).toBe("GET / HTTP/1.1\r\n\r\n");
    client.destroy();
    accepted.destroy();
  });

  test("is another once the time is up, it has ended or there is too much", async () => {
    const silent = await pair();
    expect(await sniff(silent.accepted, 50)).toEqual({ kind: "other" });
    silent.client.write("late");
    expect(await heard(silent.accepted, "late")).toBe("late");
    const short = await pair();
    short.client.end("GE");
    expect(await sniff(short.accepted, 5_000)).toEqual({ kind: "other" });
    expect(short.accepted.destroyed).toBe(true);
    const gone = await pair();
    gone.client.resetAndDestroy();
    expect(await sniff(gone.accepted, 5_000)).toEqual({ kind: "other" });
    const large = await pair();
    large.client.write(
      Buffer.from([
        22,
        3,
        1,
        ...u16(16_384),
        1,
        ...u24(60_000),
        ...Buffer.alloc(16_380),
        22,
        3,
        1,
        ...u16(16_384),
        ...Buffer.alloc(100),
      ]),
    );
    expect(await sniff(large.accepted, 5_000)).toEqual({ kind: "other" });
    for (const { client, accepted } of [silent, large]) {
      client.destroy();
      accepted.destroy();
    }
  });
});
