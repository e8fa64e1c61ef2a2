import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { OutputStream } from "../../src/contract/process.ts";
import { eventsOf } from "./events-of.ts";
import {
  codeOf,
  emptyStream,
  errorOf,
  exec,
  open,
  readText,
  startSpec,
  stream,
  text,
  type BackendUnderTest,
} from "./under-test.ts";

/** Output, input and terminals of processes, whichever the backend. */
export function describeProcesses(under: BackendUnderTest): void {
  describe(`processes of backend ${under.name}`, () => {
    const sandboxId = newId("sandbox");
    const backend = under.open(sandboxId);
    const start = async (command: string[], more: Parameters<typeof exec>[2] = {}) =>
      (await exec(backend, command, more, 0)).process_id;
    const write = (processId: string, content: string, offset?: number, eof = false) =>
      backend.writeStdin(processId, content === "" ? emptyStream() : stream(content), { offset, eof });
    const read = (processId: string, offset = 0, follow = true, of: OutputStream = "stdout") =>
      readText(backend.output(processId, of, offset, follow));

    beforeAll(async () => {
      expect(await backend.start(startSpec(under.image, sandboxId))).toMatchObject({ kind: "launched" });
    });
    afterAll(() => backend.stop());

    describe("output", () => {
      it("is read from any offset, to what there is or to its end", async () => {
        const processId = await start(["cat"], { open_stdin: true });
        await write(processId, "hello ");
        await expect.poll(() => read(processId, 0, false)).toBe("hello ");
        const followed = read(processId);
        const ahead = read(processId, 8);
        await write(processId, "world", undefined, true);
        expect(await followed).toBe("hello world");
        expect(await ahead).toBe("rld");
        expect(await read(processId, 6, false)).toBe("world");
        expect(await read(processId, 11)).toBe("");
        expect(await read(processId, 100)).toBe("");
        expect(await read(processId, 0, true, "stderr")).toBe("");
      });

      it("comes as it is written", async () => {
        const processId = await start(["sh", "-c", "echo one; sleep 0.5; echo two >&2; sleep 30"]);
        const reader = (await open(await backend.output(processId, "stdout", 0, true))).getReader();
        expect(new TextDecoder().decode((await reader.read()).value)).toBe("one\n");
        await reader.cancel();
        await expect.poll(() => read(processId, 0, false, "stderr")).toBe("two\n");
        expect(await backend.process(processId)).toMatchObject({ returncode: null });
        await backend.signal(processId, "SIGKILL");
      });

      it("says from where it is kept when the offset is no longer", async () => {
        const length = 20_000_000;
        const { process_id, stdout_bytes } = await exec(backend, ["head", "-c", String(length), "/dev/zero"]);
        expect(stdout_bytes).toBe(length);
        const error = await errorOf(read(process_id, 0, false));
        expect(error?.code).toBe("output_expired");
        const oldest = Number(error?.extra?.["oldest_offset"]);
        expect(oldest).toBeGreaterThan(0);
        expect(await read(process_id, oldest)).toHaveLength(length - oldest);
        expect(await codeOf(readText(backend.events(process_id, { stdout: 0, stderr: 0 })))).toBe("output_expired");
      });

      it("is not there of a process that never was", async () => {
        expect(await codeOf(readText(backend.output(newId("process"), "stdout", 0, true)))).toBe("process_not_found");
        expect(await codeOf(readText(backend.events(newId("process"), { stdout: 0, stderr: 0 })))).toBe(
          "process_not_found",
        );
      });

      it("that is ignored is not there, and holds nothing up", async () => {
        const both = ["sh", "-c", "echo out; echo err >&2"];
        const status = await exec(backend, both, { stdout: "ignore" });
        expect(status).toMatchObject({ returncode: 0, stdout_bytes: 0, stderr_bytes: 4 });
        expect(await exec(backend, both, { stderr: "ignore" })).toMatchObject({ stdout_bytes: 4, stderr_bytes: 0 });
        const much = await exec(backend, ["head", "-c", "5000000", "/dev/zero"], { stdout: "ignore" });
        expect(much).toMatchObject({ returncode: 0, stdout_bytes: 0 });
      });
    });

    describe("events", () => {
      it("tell all output and then the end, and resume behind any of them", async () => {
        const { process_id } = await exec(backend, ["sh", "-c", "echo out; echo err >&2; exit 3"]);
        const all = eventsOf(await readText(backend.events(process_id, { stdout: 0, stderr: 0 })));
        const output = (of: string, events = all) =>
          events.flatMap(({ event, data }) => (event === of ? text(data["data"] as string) : [])).join("");
        expect([output("stdout"), output("stderr")]).toEqual(["out\n", "err\n"]);
        const exit = all.at(-1)!;
        expect(exit).toMatchObject({ id: "4.4", event: "exit" });
        expect(exit.data).toMatchObject({
          returncode: 3,
          timed_out: false,
          finish_reason: "exited",
          stdout_bytes: 4,
          stderr_bytes: 4,
        });
        const first = all[0]!;
        expect(first.data["offset"]).toBe(0);
        const [stdout, stderr] = first.id!.split(".").map(Number);
        const rest = eventsOf(await readText(backend.events(process_id, { stdout: stdout!, stderr: stderr! })));
        expect(rest).toEqual(all.slice(1));
        const middle = eventsOf(await readText(backend.events(process_id, { stdout: 2, stderr: 4 })));
        expect(middle.map(({ event, data }) => [event, data["offset"]])).toEqual([
          ["stdout", 2],
          ["exit", undefined],
        ]);
      });

      it("come as they happen", async () => {
        const processId = await start(["cat"], { open_stdin: true });
        const reader = (await open(await backend.events(processId, { stdout: 0, stderr: 0 }))).getReader();
        await write(processId, "live");
        expect(new TextDecoder().decode((await reader.read()).value)).toContain(btoa("live"));
        await reader.cancel();
        await write(processId, "", undefined, true);
      });
    });

    describe("stdin", () => {
      it("is added to, never twice, without gaps, until it is closed", async () => {
        const processId = await start(["cat"], { open_stdin: true, stdin: btoa("0123") });
        expect(await write(processId, "45", 4)).toEqual({ offset: 6, closed: false });
        expect(await write(processId, "45", 4)).toEqual({ offset: 6, closed: false });
        expect(await write(processId, "4567", 4)).toEqual({ offset: 8, closed: false });
        expect(await write(processId, "89")).toEqual({ offset: 10, closed: false });
        expect(await errorOf(write(processId, "x", 11))).toMatchObject({ code: "stdin_gap", extra: { offset: 10 } });
        expect(await write(processId, "", 10, true)).toEqual({ offset: 10, closed: true });
        expect(await backend.process(processId, 5000)).toMatchObject({ returncode: 0 });
        expect(await read(processId)).toBe("0123456789");
      });

      it("is refused where it was never open, is closed, or the process has ended", async () => {
        const never = await start(["sleep", "60"]);
        expect(await codeOf(write(never, "x"))).toBe("stdin_closed");
        const closed = await start(["sleep", "60"], { open_stdin: true });
        expect(await write(closed, "x", 0, true)).toEqual({ offset: 1, closed: true });
        expect(await write(closed, "x", 0, true)).toEqual({ offset: 1, closed: true });
        expect(await codeOf(write(closed, "x"))).toBe("stdin_closed");
        for (const processId of [never, closed]) await backend.signal(processId, "SIGKILL");
        const { process_id } = await exec(backend, ["true"], { open_stdin: true });
        expect(["process_ended", "stdin_closed"]).toContain(await codeOf(write(process_id, "x")));
        expect(await codeOf(write(newId("process"), "x"))).toBe("process_not_found");
      });

      it("carries any bytes", async () => {
        const content = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 11) % 256);
        const processId = await start(["cat"], { open_stdin: true });
        const state = await backend.writeStdin(processId, stream(content), { offset: 0, eof: true });
        expect(state).toEqual({ offset: content.length, closed: true });
        const echoed = await new Response(await open(await backend.output(processId, "stdout", 0, true))).arrayBuffer();
        expect(new Uint8Array(echoed)).toEqual(content);
      });
    });

    describe("the end of a process", () => {
      it.each([
        [["sh", "-c", "exit 3"], {}, { returncode: 3, finish_reason: "exited" }],
        [["sh", "-c", "kill -15 $$"], {}, { returncode: 143, finish_reason: "signaled" }],
        [["sleep", "60"], { timeout_ms: 200 }, { returncode: 137, finish_reason: "timeout", timed_out: true }],
      ])("of %j is told with its reason", async (command, more, expected) => {
        expect(await exec(backend, command, more)).toMatchObject(expected);
      });

      it("by a signal takes along all that it started", async () => {
        const processId = await start(["sh", "-c", "sleep 60 & sleep 60"]);
        const output = read(processId);
        await backend.signal(processId, "SIGTERM");
        const status = await backend.process(processId, 5000);
        expect(status).toMatchObject({ returncode: 143, finish_reason: "signaled", timed_out: false });
        expect(await output).toBe("");
      });
    });

    describe("a terminal", () => {
      it("has the size that it was given, and is all stdout", async () => {
        const { output, stderr_bytes } = await exec(backend, ["sh", "-c", "stty size; echo err >&2"], {
          pty: { rows: 40, cols: 100 },
        });
        expect([text(output?.stdout), stderr_bytes]).toEqual(["40 100\r\nerr\r\n", 0]);
      });

      it("gets another size", async () => {
        const pty = { rows: 24, cols: 80 };
        const processId = await start(["sh", "-c", "read line; stty size"], { pty });
        await backend.resize(processId, { rows: 50, cols: 132 });
        await write(processId, "\n");
        expect(await backend.process(processId, 5000)).toMatchObject({ returncode: 0 });
        expect(await read(processId)).toBe("\r\n50 132\r\n");
      });

      it("echoes lines, ends at Ctrl-D and breaks at Ctrl-C", async () => {
        const pty = { rows: 24, cols: 80 };
        const processId = await start(["cat"], { pty });
        await write(processId, "hi\n");
        await expect.poll(() => read(processId, 0, false)).toBe("hi\r\nhi\r\n");
        await write(processId, "\u0004");
        expect(await backend.process(processId, 5000)).toMatchObject({ returncode: 0 });
        const broken = await start(["cat"], { pty });
        await write(broken, "x\n");
        await expect.poll(() => read(broken, 0, false)).toContain("x\r\nx\r\n");
        await write(broken, "\u0003");
        expect(await backend.process(broken, 5000)).toMatchObject({ returncode: 130, finish_reason: "signaled" });
      });

      it("is needed to resize one", async () => {
        const processId = await start(["sleep", "60"]);
        expect(await codeOf(backend.resize(processId, { rows: 1, cols: 1 }))).toBe("not_a_terminal");
        await backend.signal(processId, "SIGKILL");
      });
    });

    it.skipIf(under.hasOneUser)("runs as the user that is asked for", async () => {
      expect(text((await exec(backend, ["id", "-u"], { user: "65534" })).output?.stdout)).toBe("65534\n");
    });
  });
}
