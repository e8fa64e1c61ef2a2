import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { codeOf, exec, open, readText, startSpec, stream, text } from "../backends/under-test.ts";
import { RemoteBackend } from "./remote-backend.ts";

const workerUrl = inject("containerWorker");

/** Longer than the local platform leaves an object that does nothing in memory. */
const SLEEP_MS = 14_000;
const pause = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

describe.skipIf(workerUrl === undefined)("the container of an object that is lost", () => {
  const sandboxId = newId("sandbox");
  let backend: RemoteBackend;
  const start = async (command: string[], more: object = {}) => (await exec(backend, command, more, 0)).process_id;
  const read = (processId: string, offset = 0, follow = true) =>
    readText(backend.output(processId, "stdout", offset, follow));

  beforeAll(async () => {
    backend = new RemoteBackend(workerUrl!, sandboxId);
    expect(await backend.start(startSpec("base", sandboxId))).toMatchObject({ kind: "launched" });
  });
  afterAll(() => backend?.stop());

  /** The object has another life than before. */
  const lose = async () => {
    const before = await backend.life();
    await backend.endLife();
    expect(await backend.life()).not.toBe(before);
  };

  it("goes on, with its files", async () => {
    await backend.writeFile("/root/kept", stream("kept"), {});
    await lose();
    expect(await backend.inspect()).toMatchObject({ kind: "running", generation: 1, busy: false });
    expect(await backend.start(startSpec("base", sandboxId))).toMatchObject({ kind: "adopted" });
    expect(await new Response((await backend.readFile("/root/kept")).body).text()).toBe("kept");
  });

  it("has its processes go on, and every byte of their output once", async () => {
    const count = "i=0; while [ $i -lt 40 ]; do echo line $i; i=$((i + 1)); sleep 0.05; done; exit 7";
    const processId = await start(["sh", "-c", count]);
    for (let loss = 0; loss < 3; loss++) {
      await pause(300);
      await lose();
      expect(await backend.inspect()).toMatchObject({ busy: true });
    }
    expect(await backend.process(processId, 10_000)).toMatchObject({ returncode: 7, finish_reason: "exited" });
    const lines = Array.from({ length: 40 }, (_, index) => `line ${index}\n`).join("");
    expect(await read(processId)).toBe(lines);
    // What has ended is known to any later life.
    await lose();
    expect(await backend.process(processId)).toMatchObject({ returncode: 7, stdout_bytes: lines.length });
    expect(await read(processId, lines.length - 8)).toBe("line 39\n");
  });

  it("loses no byte of a process that writes as fast as it can, for a client that comes back at its offset", async () => {
    const size = 30_000_000;
    const script = `$x = join "", map { sprintf "%07d\\n", $_ } 1 .. 125_000; print $x for 1 .. 30`;
    const processId = await start(["perl", "-e", script]);
    let received = 0;
    let losses = 0;
    const endLives = (async () => {
      for (; losses < 4; losses++) {
        await pause(40);
        await backend.endLife();
      }
    })();
    while (received < size) {
      try {
        const source = await backend.output(processId, "stdout", received, true);
        let held = "";
        for await (const chunk of await open(source)) {
          const lines = held + new TextDecoder().decode(chunk);
          const whole = lines.length - (lines.length % 8);
          for (let at = 0; at < whole; at += 8) {
            const expected = ((received + at) / 8) % 125_000;
            if (Number(lines.slice(at, at + 7)) !== expected + 1) throw new Error(`a wrong byte at ${received + at}`);
          }
          received += whole;
          held = lines.slice(whole);
        }
      } catch (error) {
        if (String(error).includes("wrong byte")) throw error;
        await pause(10);
      }
    }
    await endLives;
    expect([received, losses]).toEqual([size, 4]);
    expect(await backend.process(processId, 20_000)).toMatchObject({ returncode: 0, stdout_bytes: size });
  });

  it("takes input on where it was", async () => {
    const processId = await start(["cat"], { open_stdin: true });
    expect(await backend.writeStdin(processId, stream("one "), { offset: 0, eof: false })).toMatchObject({ offset: 4 });
    await lose();
    expect(await backend.writeStdin(processId, stream("one two"), { offset: 0, eof: true })).toEqual({
      offset: 7,
      closed: true,
    });
    expect(await backend.process(processId, 5000)).toMatchObject({ returncode: 0 });
    expect(await read(processId)).toBe("one two");
  });

  it("keeps a terminal", async () => {
    const processId = await start(["sh", "-c", "read a; read b; stty size; echo $a-$b"], {
      pty: { rows: 24, cols: 80 },
    });
    await backend.writeStdin(processId, stream("x\n"), { eof: false });
    await lose();
    await backend.resize(processId, { rows: 40, cols: 100 });
    await backend.writeStdin(processId, stream("y\n"), { eof: false });
    expect(await backend.process(processId, 5000)).toMatchObject({ returncode: 0 });
    expect(await read(processId)).toBe("x\r\ny\r\n40 100\r\nx-y\r\n");
  });

  it("kills at a timeout that it was told before", async () => {
    const processId = await start(["sleep", "60"], { timeout_ms: 1500 });
    await lose();
    expect(await backend.process(processId, 10_000)).toMatchObject({ returncode: 137, timed_out: true });
  });

  it("ends its sandbox when the entrypoint ends while nobody is there", async () => {
    const id = newId("sandbox");
    const own = new RemoteBackend(workerUrl!, id);
    await own.start(startSpec("base", id, { entrypoint: ["sh", "-c", "sleep 1; echo last words; exit 5"] }));
    await own.endLife();
    await pause(2000);
    await expect
      .poll(() => own.inspect(), { timeout: 5000 })
      .toMatchObject({ kind: "exited", exit: { returncode: 5 } });
    expect(await readText(own.output("main", "stdout", 0, true))).toBe("last words\n");
    await own.stop();
  });

  it("sleeps when nothing runs, and the container stays", async () => {
    const life = await backend.life();
    await pause(SLEEP_MS);
    expect(await backend.life()).not.toBe(life);
    expect(text((await exec(backend, ["cat", "/root/kept"])).output?.stdout)).toBe("kept");
  }, 30_000);

  it("does not sleep while something runs: its output is taken as it comes", async () => {
    const life = await backend.life();
    const processId = await start(["sh", "-c", `sleep ${(SLEEP_MS - 2000) / 1000}; echo late`]);
    await pause(SLEEP_MS);
    expect(await backend.process(processId)).toMatchObject({ returncode: 0, stdout_bytes: 5 });
    expect(await backend.life()).toBe(life);
  }, 30_000);

  it("is gone when the platform takes it away", async () => {
    const id = newId("sandbox");
    const own = new RemoteBackend(workerUrl!, id);
    await own.start(startSpec("base", id));
    const running = await exec(own, ["sleep", "60"], {}, 0);
    await own.call({ method: "bareDestroy", args: [] });
    await expect.poll(() => own.inspect()).toEqual({ kind: "gone" });
    expect(await own.process(running.process_id, 5000)).toMatchObject({ returncode: 137, finish_reason: "host_lost" });
    expect(await codeOf(exec(own, ["true"]))).toBe("sandbox_ended");
    await own.stop();
  });

  it("is not reached by what is no object: its agent wants the token", async () => {
    const own = new RemoteBackend(workerUrl!, newId("sandbox"));
    expect(await own.inspect()).toEqual({ kind: "gone" });
    const script = `use IO::Socket::INET; $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => 39717) or die $!;
      print $s pack("a1 N/a*", "H", "guessed" x 9) . pack("a1 N/a*", "X", "x"); $n = sysread $s, $b, 10; print "got $n"`;
    const tried = await exec(backend, ["perl", "-e", script]);
    expect(text(tried.output?.stdout)).toBe("got 0");
    const environ = await exec(backend, ["sh", "-c", "env; cat /proc/1/environ"], { user: "nobody" });
    expect(text(environ.output?.stdout)).not.toContain("TOKEN");
    expect(text((await exec(backend, ["env"])).output?.stdout)).not.toContain("TOKEN");
  });
});
