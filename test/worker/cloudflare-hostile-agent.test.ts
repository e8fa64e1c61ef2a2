import { afterEach, describe, expect, it, vi } from "vitest";
import { frame, list, numbers } from "../../src/backends/cloudflare/agent/frames.ts";
import { readFile } from "../../src/backends/cloudflare/agent/files.ts";
import { statusOf } from "../../src/process/process-status.ts";
import {
  codeOf,
  errorOf,
  encode,
  execSpec,
  exitPayload,
  LyingAgent,
  type LyingConnection,
  outputPayload,
  startedPayload,
  textOf,
  until,
  within,
  withLab,
} from "./lying-agent.ts";

const tooLong = () => {
  const bytes = frame("o", outputPayload(5, new Uint8Array(0)));
  new DataView(bytes.buffer).setUint32(1, 65_536 + 9);
  return bytes;
};

describe("an agent that lies about a process", () => {
  it.each<[string, () => Uint8Array, "and hangs up"?]>([
    ["an offset that jumps", () => frame("o", outputPayload(6, encode("x")))],
    ["an offset that repeats", () => frame("o", outputPayload(4, encode("xx")))],
    ["an offset of the other stream", () => frame("e", outputPayload(5, encode("x")))],
    ["an offset of 2^53", () => frame("o", outputPayload(2n ** 53n, encode("x")))],
    ["an offset of 2^64 - 1", () => frame("o", outputPayload(2n ** 64n - 1n, encode("x")))],
    ["an offset below by 2^32", () => frame("o", outputPayload(2n ** 32n + 5n, encode("x")))],
    ["half an offset", () => frame("o", new Uint8Array(7))],
    ["nothing for an output", () => frame("e")],
    ["an output of nothing", () => frame("o", outputPayload(5, new Uint8Array(0)))],
    ["a frame that is too long", tooLong],
    ["a frame of 4 GiB", () => new Uint8Array(5).fill(0xff)],
    ["a frame of an unknown type", () => frame("?", encode("what"))],
    ["a second start", () => frame("r", startedPayload())],
    ["a refusal of what runs", () => frame("f", list("exec_failed", "after all"))],
    ["input taken up to 2^60", () => frame("i", new Uint8Array(9).fill(0x10))],
    ["half of what was taken", () => frame("i", new Uint8Array(7))],
    ["half an end", () => frame("x", new Uint8Array(4))],
    ["a header that is cut", () => encode("o\0"), "and hangs up"],
    ["output that is cut", () => frame("o", outputPayload(5, encode("world"))).slice(0, -2), "and hangs up"],
  ])("is cut off, and listened to again from where it was right: %s", async (_, lie, hangsUp) => {
    await withLab(async ({ agent, start }) => {
      const [process, connection] = await start();
      await connection.out(0, "hello");
      await until(() => process.logs.stdout.length === 5);
      await connection.sayBytes(lie());
      if (hangsUp) connection.hangUp();
      const again = await agent.greeted("A");
      expect(again.words).toEqual([process.id, "5", "0"]);
      await until(() => connection.isClosed, "the end of the first connection");
      await again.started();
      await again.out(5, " world");
      await again.exits(3);
      await within(process.ended, 2_000);
      expect([await textOf(process), await textOf(process, "stderr")]).toEqual(["hello world", ""]);
      expect(statusOf(process)).toMatchObject({ returncode: 3, finish_reason: "exited", stdout_bytes: 11 });
      await again.hears("D");
    });
  });

  it.each<[string, (connection: LyingConnection) => Promise<unknown>]>([
    ["hangs up", async () => undefined],
    ["answers with another frame", (one) => one.say("k")],
    ["answers with half of it", (one) => one.say("r", startedPayload().slice(0, 9))],
    ["says that 2^60 bytes were received", (one) => one.say("r", new Uint8Array(17).fill(0x10))],
    ["refuses with what is no code", (one) => one.refuses("whatever", "")],
  ])("at its start is not believed, and asked again: %s", async (_, answer) => {
    await withLab(async ({ agent, processes }) => {
      const spec = execSpec();
      const starting = codeOf(processes.start(spec));
      const connection = await agent.greeted("X");
      await answer(connection);
      if (connection.heard.length > 0) connection.hangUp();
      expect(await starting).toBe("backend_unavailable");
      await until(() => connection.isClosed, "the end of the first connection");
      // What was not answered may run all the same: whoever asks for it has the agent asked.
      const finding = processes.find(spec.process_id);
      const again = await agent.greeted("A");
      expect(again.words).toEqual([spec.process_id, "0", "0"]);
      await again.started();
      await again.out(0, "after all");
      await again.exits(0);
      const process = await finding;
      await within(process.ended, 2_000);
      expect(await textOf(process)).toBe("after all");
    });
  });

  it("that says nothing to a start is not waited for for ever", async () => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const agent = new LyingAgent();
    const reading = codeOf(readFile(agent, "/x", undefined, () => undefined));
    for (let turn = 0; turn < 50 && agent.connections.length === 0; turn++) await Promise.resolve();
    await vi.advanceTimersByTimeAsync(29_000);
    expect(agent.connections[0]!.isClosed).toBe(false);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(await reading).toBe("backend_unavailable");
    await vi.advanceTimersByTimeAsync(3_000);
    expect(agent.connections[0]!.isClosed).toBe(true);
  });
  afterEach(() => vi.useRealTimers());

  it("that refuses to start it is believed, and nothing is left of it", async () => {
    await withLab(async ({ agent, processes, store }) => {
      const starting = errorOf(processes.start(execSpec()));
      const connection = await agent.greeted("X");
      await connection.refuses("exec_failed", "no room");
      expect(await starting).toMatchObject({ code: "exec_failed", detail: "no room" });
      expect([store.processes(), processes.all]).toEqual([[], []]);
      await until(() => connection.isClosed);
    });
  });

  it("that does not know it any more has lost it", async () => {
    await withLab(async ({ agent, start }) => {
      const [process, connection] = await start();
      await connection.out(0, "all there is");
      connection.hangUp();
      await (await agent.greeted("A")).refuses("process_not_found", "");
      await within(process.ended, 2_000);
      expect(statusOf(process)).toMatchObject({ returncode: 137, finish_reason: "host_lost", stdout_bytes: 12 });
      expect(await textOf(process)).toBe("all there is");
    });
  });

  it("starts one of an id once, whoever asks meanwhile, and again where the first was not answered", async () => {
    await withLab(async ({ agent, processes, store }) => {
      const spec = execSpec();
      const failing = [
        codeOf(processes.start(spec)),
        codeOf(processes.start(spec)),
        codeOf(processes.find(spec.process_id)),
      ];
      (await agent.greeted("X")).hangUp();
      expect(await Promise.all(failing)).toEqual(Array(3).fill("backend_unavailable"));
      expect([store.processes(), processes.all]).toEqual([[], []]);
      const starting = processes.start(spec);
      const connection = await agent.greeted("X");
      await connection.started();
      const { process } = await starting;
      expect(await processes.find(spec.process_id)).toBe(process);
      await connection.exits(0);
      await within(process.ended, 2_000);
    });
  });

  it("lets one that has ended by itself at its time have ended by itself", async () => {
    await withLab(async ({ agent, start }) => {
      const [process, connection] = await start({ timeout_ms: 100 });
      agent.isAway = true;
      connection.hangUp();
      await new Promise((wake) => setTimeout(wake, 300));
      agent.isAway = false;
      const again = await agent.greeted("A");
      await again.started();
      await again.exits(0);
      await within(process.ended, 2_000);
      expect(statusOf(process)).toMatchObject({ returncode: 0, timed_out: false, finish_reason: "exited" });
    });
  });

  it("that tells an end has nothing more to say of it", async () => {
    await withLab(async ({ start, reopen }) => {
      const [process, connection] = await start();
      await connection.out(0, "before");
      await connection.exits(7);
      await connection.out(6, "after");
      await connection.exits(0);
      await within(process.ended, 2_000);
      await connection.hears("D");
      await until(() => connection.isClosed);
      const expected = { returncode: 7, finish_reason: "exited", stdout_bytes: 6 };
      expect(statusOf(process)).toMatchObject(expected);
      expect(await textOf(process)).toBe("before");
      const restored = await reopen().find(process.id);
      expect(statusOf(restored)).toEqual(statusOf(process));
      expect(await textOf(restored)).toBe("before");
    });
  });

  it.each([
    [0x0000, 0, 0, "exited"],
    [0xff00, 0, 255, "exited"],
    [0x0009, 0, 137, "signaled"],
    [0x0089, 0, 137, "signaled"],
    [0x0009, 1, 137, "oom"],
    [0x007f, 0, 255, "exited"],
    [0xffffffff, 0, 255, "exited"],
    [0xffffff80, 0, 255, "exited"],
  ])("may tell any end, as %i (%i), which is a return code then", async (status, oom, returncode, finish_reason) => {
    await withLab(async ({ start }) => {
      const [process, connection] = await start();
      await connection.say("x", exitPayload(status, oom));
      await within(process.ended, 2_000);
      expect(statusOf(process)).toMatchObject({ returncode, finish_reason });
    });
  });

  it("about the input makes no more of it than it was given", async () => {
    await withLab(async ({ agent, start }) => {
      const [process, connection] = await start({ open_stdin: true }, true);
      const write = (text: string, eof = false) => process.input!.write(bodyOf(encode(text)), { eof });
      const first = write("0123456789");
      expect((await connection.hears("I")).payload).toEqual(encode("0123456789"));
      connection.hangUp();
      const again = await agent.greeted("A");
      await again.started({ received: 4, isOpen: true });
      expect((await again.hears("I")).payload).toEqual(encode("456789"));
      await again.say("i", taken(9, true));
      await again.say("i", taken(3, true));
      await again.say("i", taken(2 ** 40, true));
      expect(await within(first, 2_000)).toEqual({ offset: 10, closed: false });
      again.hangUp();
      const third = await agent.greeted("A");
      await third.started({ received: 2 ** 50, isOpen: true });
      const second = write("more");
      expect((await third.hears("I")).payload).toEqual(encode("more"));
      await third.say("i", taken(14, false));
      expect(await within(second, 2_000)).toEqual({ offset: 14, closed: false });
      expect(await codeOf(write("too late"))).toBe("process_ended");
    });
  });

  it("kills it at its time, also when nobody was connected then", async () => {
    await withLab(async ({ agent, start }) => {
      const [process, connection] = await start({ timeout_ms: 300 });
      agent.isAway = true;
      connection.hangUp();
      await new Promise((wake) => setTimeout(wake, 500));
      agent.isAway = false;
      const again = await agent.greeted("A");
      await again.started();
      expect((await again.hears("S")).payload).toEqual(Uint8Array.of(9));
      await again.say("x", exitPayload(9));
      await within(process.ended, 2_000);
      expect(statusOf(process)).toMatchObject({ returncode: 137, timed_out: true, finish_reason: "timeout" });
    });
  });

  it("kills it at its time, also when the answer to its start was lost", async () => {
    await withLab(async ({ agent, processes }) => {
      const spec = execSpec({ timeout_ms: 400 });
      const starting = codeOf(processes.start(spec));
      (await agent.greeted("X")).hangUp();
      expect(await starting).toBe("backend_unavailable");
      const finding = processes.find(spec.process_id);
      const again = await agent.greeted("A");
      // The agent has kept for the object when that is.
      await again.started({ note: JSON.stringify({ isTerminal: false, killAt: Date.now() + 100 }) });
      const process = await finding;
      expect((await again.hears("S")).payload).toEqual(Uint8Array.of(9));
      await again.say("x", exitPayload(9));
      await within(process.ended, 2_000);
      expect(statusOf(process)).toMatchObject({ timed_out: true });
    });
  });
});

const taken = (offset: number, isOpen: boolean) => Uint8Array.of(...numbers(offset), isOpen ? 1 : 0);
const bodyOf = (bytes: Uint8Array) => new Blob([bytes as Uint8Array<ArrayBuffer>]).stream();

describe("an agent that does not listen", () => {
  it("is told the last acknowledgement only, whatever it has said", async () => {
    await withLab(async ({ agent, start }) => {
      agent.isDeaf = true;
      const starting = start();
      const [process, connection] = await starting;
      const before = connection.unheardBytes;
      for (let offset = 0; offset < 3_000; offset++) await connection.out(offset, "x");
      await until(() => process.logs.stdout.length === 3_000);
      expect(connection.unheardBytes - before).toBeLessThan(200);
      // Its end is taken down all the same, and it is left.
      await connection.exits(0);
      await within(process.ended, 1_000);
      await until(() => connection.isClosed, "the end of the connection");
    });
  });

  it("does not keep a process from being counted as ended", async () => {
    await withLab(async ({ agent, start }) => {
      agent.isDeaf = true;
      const [process, connection] = await start({ timeout_ms: 100 });
      await connection.out(0, "x");
      await within(process.ended, 12_000);
      expect(statusOf(process)).toMatchObject({ returncode: 137, timed_out: true });
      await until(() => connection.isClosed, "the end of the connection");
    });
  });
});
