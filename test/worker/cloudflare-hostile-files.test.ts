import { describe, expect, it } from "vitest";
import { frame, list } from "../../src/backends/cloudflare/agent/frames.ts";
import { readFile, writeFile } from "../../src/backends/cloudflare/agent/files.ts";
import { asApiError } from "../../src/contract/errors.ts";
import { codeOf, errorOf, encode, LyingAgent, type LyingConnection, until, within } from "./lying-agent.ts";

describe("an agent that lies about a file", () => {
  const meta = (kind: number, size: number | bigint, first: number | bigint = 0, last: number | bigint = 0) => {
    const payload = new Uint8Array(25);
    const view = new DataView(payload.buffer);
    payload[0] = kind;
    for (const [index, value] of [size, first, last].entries()) view.setBigUint64(1 + index * 8, BigInt(value));
    return payload;
  };
  const data = (bytes: number) => frame("d", new Uint8Array(bytes).fill(7));
  const end = frame("z");

  /** What comes of it: the bytes of a body that is whole, or the error. */
  async function read(...frames: Uint8Array[]) {
    const agent = new LyingAgent();
    let done = 0;
    const isPart = frames[0]?.[5] === 2;
    const reading = readFile(agent, "/file", isPart ? { first: 0 } : undefined, () => (done += 1));
    const connection = await agent.greeted("R");
    void (async () => {
      for (const bytes of frames) await connection.sayBytes(bytes);
      connection.hangUp();
    })();
    const outcome = await reading.then(
      async ({ body, ...rest }) => {
        const bytes = await new Response(body)
          .arrayBuffer()
          .catch((error: unknown) => asApiError(error)?.code ?? error);
        expect(done).toBe(1);
        return typeof bytes === "string" ? bytes : { ...rest, length: (bytes as ArrayBuffer).byteLength };
      },
      (error: unknown) => asApiError(error)?.code,
    );
    await until(() => connection.isClosed, "the end of the connection");
    return outcome;
  }

  it("is believed when it does not", async () => {
    expect(await read(frame("m", meta(1, 10)), data(4), data(6), end)).toEqual({ size: 10, length: 10 });
    expect(await read(frame("m", meta(1, 10)), data(0), data(10), data(0), end)).toEqual({ size: 10, length: 10 });
    expect(await read(frame("m", meta(1, 0)), end)).toEqual({ size: 0, length: 0 });
    expect(await read(frame("m", meta(0, 0)), data(10), end)).toEqual({ length: 10 });
    expect(await read(frame("m", meta(2, 10, 3, 5)), data(3), end)).toEqual({
      size: 10,
      range: { first: 3, last: 5 },
      length: 3,
    });
  });

  it.each<[string, Uint8Array[]]>([
    ["promises more than comes", [frame("m", meta(1, 10)), data(9), end]],
    ["promises more than comes, and hangs up", [frame("m", meta(1, 10)), data(9)]],
    ["promises less than comes", [frame("m", meta(1, 10)), data(11), end]],
    ["promises less than comes, in pieces", [frame("m", meta(1, 10)), data(6), data(6), end]],
    ["promises nothing and sends something", [frame("m", meta(1, 0)), data(1), end]],
    ["goes on behind the last byte", [frame("m", meta(1, 10)), data(10), data(1), end]],
    ["does not end", [frame("m", meta(1, 10)), data(10)]],
    ["does not end what has no size", [frame("m", meta(0, 0)), data(10)]],
    ["sends more than the range", [frame("m", meta(2, 10, 3, 5)), data(4), end]],
    ["sends less than the range", [frame("m", meta(2, 10, 3, 5)), data(2), end]],
    ["answers a range that ends before it begins", [frame("m", meta(2, 10, 5, 4)), end]],
    ["answers a range that ends far before it begins", [frame("m", meta(2, 10, 9, 2)), data(3), end]],
    ["answers a range beyond the end", [frame("m", meta(2, 10, 3, 10)), data(8), end]],
    ["answers a range of nothing", [frame("m", meta(2, 0, 0, 0)), data(1), end]],
    ["says a size of 2^53", [frame("m", meta(1, 2n ** 53n)), end]],
    ["says a range of 2^64", [frame("m", meta(2, 10, 0, 2n ** 64n - 1n)), data(10), end]],
    ["says half of it", [frame("m", meta(1, 10).slice(0, 20)), data(10), end]],
    ["says nothing of it", [frame("m"), end]],
    ["says something else", [frame("k"), frame("m", meta(1, 10)), data(10), end]],
    ["says something else in between", [frame("m", meta(1, 10)), data(5), frame("o", new Uint8Array(5)), end]],
    ["begins anew", [frame("m", meta(1, 10)), data(5), frame("m", meta(1, 10)), data(10), end]],
    ["refuses in between", [frame("m", meta(1, 10)), data(5), frame("f", list("permission_denied", "")), data(5), end]],
    ["sends what is no frame", [frame("m", meta(1, 10)), data(5), new Uint8Array(20).fill(0xff)]],
    ["hangs up", []],
  ])("never makes it look whole: %s", async (_, frames) => {
    expect(await read(...frames)).toBe("backend_unavailable");
  });

  it.each<[string, (connection: LyingConnection) => Promise<unknown>, string]>([
    ["before the end", (one) => one.say("z"), "backend_unavailable"],
    ["with another frame", (one) => one.say("k"), "backend_unavailable"],
    ["with a refusal", (one) => one.refuses("disk_full", ""), "disk_full"],
    ["with nothing", async (one) => one.hangUp(), "backend_unavailable"],
  ])("that answers a write %s has not written it", async (_, answer, code) => {
    const agent = new LyingAgent();
    const endless = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        await new Promise((wake) => setTimeout(wake, 5));
        controller.enqueue(new Uint8Array(1_000));
      },
    });
    const writing = codeOf(writeFile(agent, "/file", endless, {}));
    const connection = await agent.greeted("W");
    await connection.say("k");
    await connection.hears("d");
    await answer(connection);
    expect(await within(writing, 3_000)).toBe(code);
    await until(() => connection.isClosed, "the end of the connection");
    expect(connection.heard.map(({ type }) => type)).not.toContain("z");
  });
});

describe("a refusal", () => {
  const refusal = async (code: string, detail: string) => {
    const agent = new LyingAgent();
    const reading = errorOf(readFile(agent, "/file", { first: 0 }, () => undefined));
    await (await agent.greeted("R")).refuses(code, detail);
    return (await reading)!;
  };

  it("has a code of the table as it is, with its detail", async () => {
    expect(await refusal("file_not_found", "")).toMatchObject({ code: "file_not_found", detail: undefined });
    expect(await refusal("not_a_file", "why")).toMatchObject({ code: "not_a_file", detail: "why" });
    expect(await refusal("disk_full", "ü\0\ufffd")).toMatchObject({ code: "disk_full", detail: "ü\0\ufffd" });
  });

  it.each([
    "",
    "internal",
    "unauthenticated",
    "sandbox_not_found",
    "sandbox_ended",
    "rate_limited",
    "exec_failed",
    "no_such_code",
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "\0",
    "x".repeat(60_000),
  ])("of the code %j is one of the backend", async (code) => {
    const { code: known, detail } = await refusal(code, "detail");
    expect(known).toBe("backend_unavailable");
    expect(detail!.length).toBeLessThanOrEqual(500);
  });

  it("has a detail that somebody can read", async () => {
    for (const code of ["permission_denied", "made_up"]) {
      const { detail } = await refusal(code, "y".repeat(65_000));
      expect(detail!.length).toBeLessThanOrEqual(500);
      expect(detail).toContain("yyy");
    }
    const agent = new LyingAgent();
    const reading = codeOf(readFile(agent, "/file", undefined, () => undefined));
    await (await agent.greeted("R")).say("f", encode("garbage"));
    expect(await reading).toBe("backend_unavailable");
  });

  it.each([
    ["12", 12],
    ["0", 0],
    ["", 0],
    ["-5", 0],
    ["1e999", 0],
    ["Infinity", 0],
    ["1.5", 0],
    ["0x10", 0],
    ["99999999999999999999", 0],
    ["many", 0],
  ])("of a range says the size %j as %i", async (detail, size) => {
    expect(await refusal("range_not_satisfiable", detail)).toMatchObject({ extra: { size } });
  });
});
