import { afterEach, describe, expect, it, vi } from "vitest";
import { readArchive } from "../../src/backends/cloudflare/agent/archive.ts";
import { frame, list } from "../../src/backends/cloudflare/agent/frames.ts";
import { listFiles, move, stat } from "../../src/backends/cloudflare/agent/tree.ts";
import { watch } from "../../src/backends/cloudflare/agent/watch.ts";
import { eventsOf } from "../backends/events-of.ts";
import { codeOf, encode, LyingAgent, until, within } from "./lying-agent.ts";

const info = (path = "/dir/file", more: Partial<Record<string, string>> = {}) => {
  const { mode = "33188", size = "5", owner = "root", group = "root", seconds = "7", ns = "8", target = "" } = more;
  return list(path, mode, size, owner, group, seconds, ns, target);
};

/** Says these once it is asked, and hangs up. */
async function saying<T>(type: string, asked: (agent: LyingAgent) => Promise<T>, frames: Uint8Array[]): Promise<T> {
  const agent = new LyingAgent();
  const asking = asked(agent);
  asking.catch(() => undefined);
  const connection = await agent.greeted(type);
  void (async () => {
    for (const bytes of frames) await connection.sayBytes(bytes);
    connection.hangUp();
  })();
  return within(
    asking.finally(() => until(() => connection.isClosed, "the end of the connection")),
    10_000,
  );
}

describe("an agent that lies about a directory", () => {
  const statOf = (...frames: Uint8Array[]) => saying("Q", (agent) => stat(agent, "/dir/file"), frames);
  const listOf = (limit: number, ...frames: Uint8Array[]) =>
    saying("L", (agent) => listFiles(agent, "/dir", { depth: 1, limit }), frames);

  it("is believed when it does not", async () => {
    expect(await statOf(frame("l", info()))).toEqual({
      name: "file",
      path: "/dir/file",
      type: "file",
      size: 5,
      mode: "644",
      permissions: "-rw-r--r--",
      owner: "root",
      group: "root",
      modified_at: "1970-01-01T00:00:07.000000008Z",
    });
    const { data, more } = await listOf(2, frame("l", info()), frame("l", info("/dir/x")), frame("z", encode("1")));
    expect([data.length, more]).toEqual([2, true]);
  });

  it.each<[string, Uint8Array]>([
    ["nothing", new Uint8Array(0)],
    ["half of it", list("/dir/file", "33188", "5")],
    ["no path", info("file")],
    ["a mode that is none", info(undefined, { mode: "99999999" })],
    ["a mode in words", info(undefined, { mode: "rw" })],
    ["a size below nothing", info(undefined, { size: "-1" })],
    ["an endless size", info(undefined, { size: "9".repeat(1000) })],
    ["a time in words", info(undefined, { seconds: "now" })],
    ["more nanoseconds than a second has", info(undefined, { ns: "1000000000" })],
    ["no owner", info(undefined, { owner: "" })],
    ["what is no list", new Uint8Array(200).fill(0xff)],
  ])("says nothing to a client when it says %s", async (_, payload) => {
    expect(await codeOf(statOf(frame("l", payload)))).toBe("backend_unavailable");
    expect(await codeOf(listOf(5, frame("l", payload), frame("z", encode("0"))))).toBe("backend_unavailable");
  });

  it("may name any time and size", async () => {
    const far = info(undefined, { seconds: "99999999999999999999", size: "99999999999999999999" });
    expect(await statOf(frame("l", far))).toMatchObject({
      size: Number.MAX_SAFE_INTEGER,
      modified_at: "9999-12-31T23:59:59.000000008Z",
    });
    const past = info(undefined, { seconds: "-99999999999999999999" });
    expect(await statOf(frame("l", past))).toMatchObject({ modified_at: "0001-01-01T00:00:00.000000008Z" });
  });

  it("says no more than it is asked for, nor more than can be held", async () => {
    const one = frame("l", info());
    expect(await codeOf(listOf(2, one, one, one, frame("z", encode("0"))))).toBe("backend_unavailable");
    const huge = frame("l", info(`/${"x".repeat(60_000)}`));
    expect(await codeOf(listOf(10_000, ...Array.from({ length: 400 }, () => huge)))).toBe("backend_unavailable");
  });

  it("has done nothing when it does not say so", async () => {
    const moved = (...frames: Uint8Array[]) => codeOf(saying("M", (agent) => move(agent, "/a", "/b"), frames));
    expect(await moved(frame("z"))).toBe("no error");
    expect(await moved()).toBe("backend_unavailable");
    expect(await moved(frame("l", info()))).toBe("backend_unavailable");
    expect(await moved(frame("f", list("directory_not_empty", "")))).toBe("directory_not_empty");
    expect(await moved(frame("f", list("range_not_satisfiable", "")))).toBe("backend_unavailable");
  });

  it("has no whole archive when it does not end it", async () => {
    const packed = async (...frames: Uint8Array[]) => {
      let done = 0;
      const read = async (agent: LyingAgent) =>
        (await new Response(await readArchive(agent, "/", () => (done += 1))).arrayBuffer()).byteLength;
      const outcome = await saying("G", read, frames).catch(() => "broken");
      expect(done).toBe(1);
      return outcome;
    };
    const data = frame("d", new Uint8Array(100));
    expect(await packed(frame("k"), data, data, frame("z"))).toBe(200);
    expect(await packed(frame("k"), data)).toBe("broken");
    expect(await packed(frame("k"), data, frame("f", list("internal", "")))).toBe("broken");
  });
});

describe("an agent that lies about what happens", () => {
  afterEach(() => {
    vi.useRealTimers();
  });
  const event = (...words: string[]) => frame("v", list(...words));
  const told = async (...frames: Uint8Array[]) => {
    let done = 0;
    const seen = async (agent: LyingAgent) =>
      new Response(
        await watch(
          agent,
          "/dir",
          true,
          () => true,
          () => (done += 1),
        ),
      ).text();
    const text = await saying("O", seen, frames);
    expect(done).toBe(1);
    return eventsOf(text).map(({ event, data }) => [event, data["path"] ?? data["code"], data["from"]]);
  };
  const ready = event("ready", "/dir");

  it("is believed when it does not", async () => {
    const frames = [event("create", "/dir/a\n\n"), event("rename", "/dir/b", "/dir/a"), event("overflow")];
    expect(await told(ready, ...frames, event("remove", "/dir"), frame("z"))).toEqual([
      ["ready", "/dir", undefined],
      ["create", "/dir/a\n\n", undefined],
      ["rename", "/dir/b", "/dir/a"],
      ["overflow", undefined, undefined],
      ["remove", "/dir", undefined],
    ]);
  });

  it.each<[string, Uint8Array[]]>([
    ["an event that there is none of", [event("explode", "/dir")]],
    ["an event of nothing", [event("create")]],
    ["a rename from nowhere", [event("rename", "/dir/b")]],
    ["nothing", [frame("v")]],
    ["another frame", [frame("l", info())]],
    ["what is no frame", [new Uint8Array(20).fill(0xff)]],
    ["no more", []],
  ])("ends the stream with an error when it says %s", async (_, frames) => {
    expect((await told(ready, ...frames)).at(-1)).toEqual(["error", "backend_unavailable", undefined]);
  });

  it("opens none when it begins with something else", async () => {
    const opened = (...frames: Uint8Array[]) =>
      codeOf(
        saying(
          "O",
          (agent) =>
            watch(
              agent,
              "/dir",
              true,
              () => true,
              () => undefined,
            ),
          frames,
        ),
      );
    expect(await opened(event("create", "/dir/a"))).toBe("backend_unavailable");
    expect(await opened(frame("z"))).toBe("backend_unavailable");
    expect(await opened(frame("f", list("file_not_found", "")))).toBe("file_not_found");
  });

  it("says nothing for long, and the client hears that it is still there", async () => {
    const agent = new LyingAgent();
    const opening = watch(
      agent,
      "/dir",
      true,
      () => true,
      () => undefined,
    );
    const connection = await agent.greeted("O");
    await connection.sayBytes(ready);
    const reader = (await opening).getReader();
    await reader.read();
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    for (let time = 0; time < 2; time++) {
      const next = reader.read();
      await vi.advanceTimersByTimeAsync(15_000);
      expect(new TextDecoder().decode((await next).value)).toBe(":\n\n");
    }
    vi.useRealTimers();
    await connection.sayBytes(event("create", "/dir/a"));
    expect(new TextDecoder().decode((await reader.read()).value)).toContain("event: create");
    await reader.cancel();
    await until(() => connection.isClosed, "the end of the connection");
  });
});
