import { existsSync, readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ExecSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { Agent, childrenOf, isRoot, noPerl } from "./cloudflare-agent.ts";
import { MIB } from "./embedded-host.ts";
import { until } from "./signed-host.ts";

const SIZE = { rows: 40, cols: 100 };

/** Whether it runs; a zombie does not. */
const runs = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

describe.skipIf(noPerl !== undefined)("a terminal of Cloudflare's agent", { timeout: 20_000 }, () => {
  let agent: Agent;
  beforeAll(async () => {
    agent = await Agent.start();
  });
  afterAll(() => agent?.end());

  const start = (command: string[], more: Partial<ExecSpec> = {}) => agent.start(command, { pty: SIZE, ...more });
  const shown = async (command: string[], more: Partial<ExecSpec> = {}) => {
    const client = await start(command, more);
    const end = await client.end();
    expect(client.at.stderr).toBe(0);
    return { ...end, screen: String(client.output("stdout")) };
  };

  it("is one, by all three streams, with its size and a name", async () => {
    const script = "tty; stty size; test -t 0 && test -t 1 && test -t 2; echo $? $TERM; echo err >&2; exit 3";
    const { code, screen } = await shown(["sh", "-c", script]);
    expect(code).toBe(3);
    expect(screen).toMatch(/^\/dev\/pts\/\d+\r\n40 100\r\n0 xterm-256color\r\nerr\r\n$/);
    expect(await shown(["sh", "-c", "echo $TERM"], { env: { TERM: "dumb" } })).toMatchObject({ screen: "dumb\r\n" });
  });

  it("changes its size, and tells the program", async () => {
    const client = await start(["sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done"]);
    await client.shows("up");
    client.resize(12, 3456);
    await client.shows("12 3456");
    client.signal("SIGKILL");
    expect(await client.end()).toEqual({ code: 0, signal: 9 });
  });

  it("passes Ctrl-C to what runs in the foreground, and the shell goes on", async () => {
    const client = await start(["sh", "-i"]);
    client.type("sleep 1234\n");
    await until(() => childrenOf(client.pid).length === 1);
    const [job] = childrenOf(client.pid);
    client.type("\x03");
    client.type("echo back $((6 * 7))\n");
    await client.shows("back 42");
    expect(runs(job!)).toBe(false);
    client.type("exit 5\n");
    expect(await client.end()).toEqual({ code: 5, signal: 0 });
  });

  it("ends what does not mind Ctrl-C", async () => {
    const client = await start(["cat"]);
    client.type("x\n");
    await client.shows("x\r\nx\r\n");
    client.type("\x03");
    expect(await client.end()).toEqual({ code: 0, signal: 2 });
  });

  it("takes Ctrl-D and the end of the input for an end of transmission", async () => {
    for (const end of ["\x04", undefined]) {
      const client = await start(["cat"]);
      client.type("line\n");
      if (end) client.type(end);
      else client.send("E");
      expect(await client.end()).toEqual({ code: 0, signal: 0 });
      expect(String(client.output("stdout"))).toBe("line\r\nline\r\n");
    }
  });

  it("is not hung up on a program that closes its streams and goes on", async () => {
    const quiet = "exec <&- >&- 2>&-; sleep 0.3; exit 5";
    expect(await shown(["sh", "-c", quiet])).toEqual({ code: 5, signal: 0, screen: "" });
    const script =
      "echo one; exec <&- >&- 2>&-; sleep 0.3; echo two >/dev/tty; sleep 0.1; echo three >/dev/tty; exit 6";
    expect(await shown(["sh", "-c", script])).toEqual({ code: 6, signal: 0, screen: "one\r\ntwo\r\nthree\r\n" });
  });

  it("hangs up on what is left on it", async () => {
    const client = await start(["sh", "-c", "sleep 1235 & echo $!; exit 7"]);
    const begin = performance.now();
    expect(await client.end()).toEqual({ code: 7, signal: 0 });
    expect(performance.now() - begin).toBeLessThan(700);
    const job = Number(String(client.output("stdout")).trim());
    expect(job).toBeGreaterThan(1);
    await until(() => !runs(job));
  });

  it("does not wait for what stays on it and does not mind", async () => {
    const client = await start(["sh", "-c", "trap '' HUP; (sleep 2; echo late) & echo now; exit 8"]);
    const begin = performance.now();
    expect(await client.end()).toEqual({ code: 8, signal: 0 });
    expect(performance.now() - begin).toBeLessThan(700);
    expect(String(client.output("stdout"))).toBe("now\r\n");
  });

  it("shows all that was written before the end, however much and however late it is read", async () => {
    const client = await agent.start(["perl", "-e", "print qq(0123456789abcde\\n) x 100_000; exit 4"], {
      pty: SIZE,
      acknowledges: false,
    });
    await until(() => client.at.stdout === MIB);
    await sleep(200);
    expect([client.at.stdout, client.exit]).toEqual([MIB, undefined]);
    client.acknowledges = true;
    client.acknowledge();
    expect(await client.end()).toEqual({ code: 4, signal: 0 });
    expect(String(client.output("stdout"))).toBe("0123456789abcde\r\n".repeat(100_000));
  });

  it("stays over a connection that broke", async () => {
    const process_id = newId("process");
    const client = await start(["sh", "-c", "echo up; read a; read b; stty size; echo $a-$b"], { process_id });
    await client.shows("up");
    client.type("x\n");
    await client.shows("x\r\n");
    await client.cut();
    const again = await agent.attach(process_id, client.at);
    await until(() => again.pid === client.pid);
    expect(again).toMatchObject({ received: 2, isOpen: true });
    again.resize(24, 80);
    again.type("y\n");
    expect(await again.end()).toEqual({ code: 0, signal: 0 });
    expect(String(again.output("stdout"))).toBe("y\r\n24 80\r\nx-y\r\n");
  });

  it("says what cannot be run", async () => {
    expect(await shown(["nope"])).toEqual({ code: 127, signal: 0, screen: "nope: not found\r\n" });
  });

  it.skipIf(!isRoot)("belongs to who runs on it", async () => {
    const { code, screen } = await shown(["sh", "-c", "id -u; echo x >$(tty)"], { user: "nobody" });
    expect([code, screen]).toEqual([0, "65534\r\nx\r\n"]);
  });

  it("comes and goes many times, and leaves nothing open", async () => {
    const count = () => readdirSync(`/proc/${agent.child.pid}/fd`).length;
    await shown(["true"]);
    await until(() => count() < 8);
    const before = count();
    await Promise.all(Array.from({ length: 40 }, () => shown(["sh", "-c", "echo x"])));
    await until(() => count() === before);
  });
});
