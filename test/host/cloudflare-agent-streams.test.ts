import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentConnection } from "../../src/backends/cloudflare/agent/connection.ts";
import { list } from "../../src/backends/cloudflare/agent/frames.ts";
import { newId } from "../../src/contract/ids.ts";
import { Agent, noPerl } from "./cloudflare-agent.ts";
import { MIB } from "./embedded-host.ts";
import { until } from "./signed-host.ts";

const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const bytesOf = (text: string) => new TextEncoder().encode(text);
const NOTHING = { stdout: 0, stderr: 0 };

describe.skipIf(noPerl !== undefined)("what goes in and out, by Cloudflare's agent", { timeout: 30_000 }, () => {
  const dir = mkdtempSync("/tmp/sandbar-agent-streams-");
  let agent: Agent;

  beforeAll(async () => {
    agent = await Agent.start();
  });
  afterAll(async () => {
    await agent?.end();
    rmSync(dir, { recursive: true });
  });

  describe("stdin", () => {
    it("of up to a MiB goes down with the start, byte for byte", async () => {
      const stdin = randomBytes(MIB);
      const client = await agent.start(["cat"], { stdin: stdin.toString("base64") });
      expect(await client.end()).toMatchObject({ code: 0 });
      expect(hash(client.output("stdout"))).toBe(hash(stdin));
      expect(client.received).toBe(MIB);
    });

    it("is at its end where none is given, and may go unread", async () => {
      expect(await agent.exec(["cat"])).toMatchObject({ code: 0, stdout: "" });
      const { code } = await agent.exec(["true"], { stdin: Buffer.alloc(MIB).toString("base64") });
      expect(code).toBe(0);
    });

    it("that is open takes what comes, and says what it took", async () => {
      const client = await agent.start(["cat"], { stdin: btoa("one "), open_stdin: true });
      client.type("two ");
      await client.shows("one two ");
      client.type("three");
      client.send("E");
      expect(await client.end()).toMatchObject({ code: 0 });
      expect(String(client.output("stdout"))).toBe("one two three");
      const taken = client.stdin.map((one) => one.taken);
      expect(taken).toEqual(taken.toSorted((a, b) => a - b));
      expect(client.stdin.at(-1)).toEqual({ taken: 13, isOpen: false });
    });

    it("counts as taken only once it is in the pipe", async () => {
      const script =
        "$SIG{USR1} = sub { local $/; print length <STDIN>; exit }; print qq(up\\n); $| = 1; sleep 1 while 1";
      const client = await agent.start(["perl", "-e", `$| = 1; ${script}`], { open_stdin: true });
      await client.shows("up");
      for (let part = 0; part < 5; part++) client.send("I", new Uint8Array(60_000));
      client.send("E");
      await sleep(300);
      const before = client.stdin.at(-1)!;
      expect(before.isOpen).toBe(true);
      expect(before.taken).toBeGreaterThan(60_000);
      expect(before.taken).toBeLessThanOrEqual(65_536);
      client.signal("SIGUSR1");
      expect(await client.end()).toMatchObject({ code: 0 });
      expect(String(client.output("stdout"))).toBe("up\n300000");
      expect(client.stdin.at(-1)).toEqual({ taken: 300_000, isOpen: false });
    });

    it("says that it is closed when nobody reads any more", async () => {
      const client = await agent.start(["sh", "-c", "exec <&-; echo closed; sleep 60"], { open_stdin: true });
      await client.shows("closed");
      client.type("x");
      await until(() => client.stdin.at(-1)?.isOpen === false);
      expect(client.stdin.at(-1)!.taken).toBe(0);
      client.type("y");
      client.signal("SIGKILL");
      await client.end();
    });

    it("ends when it is told to, also while a file is under way", async () => {
      const client = await agent.start(["cat"], { open_stdin: true });
      const writing = await AgentConnection.open(agent, "W", list(`${dir}/under-way`, ""));
      await writing.answer("k");
      const begin = performance.now();
      client.send("E");
      expect(await client.end()).toMatchObject({ code: 0 });
      expect(performance.now() - begin).toBeLessThan(1_000);
      writing.close();
    });
  });

  describe("output", () => {
    /** Writes this much of a pattern to both, in turns. */
    const writer = (bytes: number) =>
      `$x = join "", map { chr($_ * 7 % 251) } 0 .. 250 * 260 - 1;
       for (my $n = 0; $n < ${bytes}; $n += length $x) {
         for my $out (*STDOUT, *STDERR) { my $y = substr $x, 0, ${bytes} - $n; while (length $y) { substr $y, 0, syswrite($out, $y), "" } }
       }`;
    const pattern = (bytes: number) =>
      Uint8Array.from({ length: bytes }, (_, index) => (((index % 65_000) % 251) * 7) % 251);

    it("comes exactly, on both streams, however late it is acknowledged", async () => {
      const size = 5 * MIB + 17;
      const client = await agent.start(["perl", "-e", writer(size)], { acknowledges: false });
      while (!client.exit && !client.isClosed) {
        client.acknowledge();
        await sleep(15);
      }
      expect(await client.end()).toEqual({ code: 0, signal: 0 });
      const expected = hash(pattern(size));
      expect([hash(client.output("stdout")), hash(client.output("stderr"))]).toEqual([expected, expected]);
    });

    it("waits at a MiB of each stream that nobody has acknowledged, and so does the process", async () => {
      const client = await agent.start(["perl", "-e", `${writer(3 * MIB)}; print STDERR "end"`], {
        acknowledges: false,
      });
      await until(() => client.at.stdout === MIB);
      await sleep(300);
      expect(client.at.stdout).toBe(MIB);
      expect(client.at.stderr).toBeLessThanOrEqual(MIB);
      expect(client.exit).toBeUndefined();
      // Neither stream goes on for what is acknowledged of the other.
      client.acknowledge({ stdout: 0, stderr: client.at.stderr });
      await sleep(200);
      expect(client.at.stdout).toBe(MIB);
      client.acknowledges = true;
      client.acknowledge();
      expect(await client.end()).toMatchObject({ code: 0 });
      expect(client.at).toEqual({ stdout: 3 * MIB, stderr: 3 * MIB + 3 });
      expect(hash(client.output("stdout"))).toBe(hash(pattern(3 * MIB)));
    });

    it("does not believe an acknowledgement of what it has not sent", async () => {
      const client = await agent.start(["perl", "-e", writer(2 * MIB)], { acknowledges: false });
      await until(() => client.at.stdout === MIB && client.at.stderr === MIB);
      client.acknowledge({ stdout: 2 ** 52, stderr: MIB + 1 });
      await sleep(200);
      expect(client.at).toEqual({ stdout: MIB, stderr: MIB });
      client.acknowledges = true;
      client.acknowledge();
      await client.end();
      expect(hash(client.output("stderr"))).toBe(hash(pattern(2 * MIB)));
    });
  });

  describe("a connection that broke", () => {
    const numbers = (lines: number) => Array.from({ length: lines }, (_, index) => `${index}\n`).join("");

    it("is made again where it was, any number of times, and every byte comes once", async () => {
      const process_id = newId("process");
      const lines = 1_500_000;
      const parts: Buffer[] = [];
      let client = await agent.start(["perl", "-e", `print "$_\\n" for 0 .. ${lines - 1}`], { process_id });
      for (let cuts = 0; ; cuts++) {
        await sleep(10 + cuts);
        const isOver = client.exit !== undefined;
        if (!isOver) await client.cut();
        parts.push(client.output("stdout"));
        if (isOver) {
          expect(cuts).toBeGreaterThan(2);
          break;
        }
        const { at } = client;
        client = await agent.attach(process_id, at);
        // What is stored may be more than the agent was told.
        client.acknowledge();
      }
      await client.end();
      expect(hash(Buffer.concat(parts))).toBe(hash(bytesOf(numbers(lines))));
    });

    it("goes on with more than it may have under way, once that is acknowledged", async () => {
      const process_id = newId("process");
      const client = await agent.start(["perl", "-e", `print "x" x ${3 * MIB}`], { process_id, acknowledges: false });
      await until(() => client.at.stdout === MIB);
      await client.cut();
      const again = await agent.attach(process_id, client.at, false);
      await until(() => again.pid === client.pid);
      await sleep(200);
      expect(again.at.stdout).toBe(MIB);
      again.acknowledges = true;
      again.acknowledge();
      expect(await again.end()).toMatchObject({ code: 0 });
      expect(again.at.stdout).toBe(3 * MIB);
    });

    it("sends again what was not stored", async () => {
      const process_id = newId("process");
      const client = await agent.start(["sh", "-c", "echo 0123456789; echo err >&2; sleep 60"], {
        process_id,
        acknowledges: false,
      });
      await until(() => client.at.stdout === 11 && client.at.stderr === 4);
      await client.cut();
      const again = await agent.attach(process_id, { stdout: 5, stderr: 4 });
      await again.shows("56789\n");
      expect([String(again.output("stdout")), String(again.output("stderr"))]).toEqual(["56789\n", ""]);
      again.signal("SIGKILL");
      await again.end();
    });

    it("is hung up on when another takes its place, and the agent lives", async () => {
      const others = await Promise.all(Array.from({ length: 20 }, () => agent.start(["sleep", "60"])));
      for (let round = 0; round < 8; round++) {
        const process_id = newId("process");
        const first = await agent.start(["cat"], { process_id, open_stdin: true });
        await until(() => first.pid > 0);
        const second = await agent.attach(process_id, NOTHING);
        await first.closed();
        second.type("to the second");
        await second.shows("to the second");
        second.send("E");
        expect(await second.end()).toMatchObject({ code: 0 });
      }
      for (const other of others) other.signal("SIGKILL");
      for (const other of others) expect(await other.end()).toMatchObject({ signal: 9 });
    });

    it("is told the end again, until that is known", async () => {
      const process_id = newId("process");
      const client = await agent.start(["sh", "-c", "echo last; exit 9"], { process_id });
      await until(() => client.exit !== undefined);
      await client.cut();
      for (let time = 0; time < 2; time++) {
        const again = await agent.attach(process_id, { stdout: 5, stderr: 0 });
        await until(() => again.exit !== undefined);
        expect([again.exit, again.at.stdout]).toEqual([{ code: 9, signal: 0 }, 5]);
        await again.cut();
      }
      const last = await agent.attach(process_id, { stdout: 5, stderr: 0 });
      expect(await last.end()).toEqual({ code: 9, signal: 0 });
      const late = await agent.attach(process_id, { stdout: 5, stderr: 0 });
      await late.closed();
      expect(late.refusal).toEqual(["process_not_found", ""]);
    });

    it("does not have a process forgotten whose end it was not told", async () => {
      const client = await agent.start(["sh", "-c", "echo on; sleep 0.2; echo still"]);
      await client.shows("on");
      client.send("D");
      await client.shows("still");
      expect(await client.end()).toMatchObject({ code: 0 });
    });
  });
});
