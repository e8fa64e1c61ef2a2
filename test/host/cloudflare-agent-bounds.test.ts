import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { frame, list } from "../../src/backends/cloudflare/agent/frames.ts";
import { failureAsRoot, failureOf } from "./as-root.ts";
import { Agent, childrenOf, isRoot, noPerl, type Client } from "./cloudflare-agent.ts";
import { until } from "./signed-host.ts";

const bytesOf = (text: string) => new TextEncoder().encode(text);
/** The beginning of a frame that says it is this long. */
const header = (type: string, length: number) => {
  const bytes = frame(type, new Uint8Array(0));
  new DataView(bytes.buffer).setUint32(1, length);
  return bytes;
};

/** Why there can be no agent that is the first process of its own. */
const noNamespaces = failureAsRoot("unshare", "--pid", "--fork", "--mount-proc", "true");
if (noNamespaces) console.log(`Cloudflare's agent as first process: skipped, ${noNamespaces}`);

describe.skipIf(noPerl !== undefined)("Cloudflare's agent holds out", { timeout: 30_000 }, () => {
  const dir = mkdtempSync("/tmp/sandbar-agent-");
  let agent: Agent;
  let victim: Client;
  let stranger: Socket;

  beforeAll(async () => {
    agent = await Agent.start();
    victim = await agent.start(["cat"], { open_stdin: true });
    stranger = connect(agent.port, "127.0.0.1");
  });
  afterAll(async () => {
    await agent?.end();
    rmSync(dir, { recursive: true });
  });

  async function othersFareWell(): Promise<void> {
    const before = victim.output("stdout").length;
    victim.type("well\n");
    await until(() => victim.output("stdout").length === before + 5);
    expect(await agent.exec(["echo", "fine"])).toMatchObject({ code: 0, stdout: "fine\n" });
  }

  describe("against who says what it should not, by hanging up", () => {
    const wrong = (token: string) => frame("H", bytesOf(token));
    const start = frame("X", bytesOf("never"));

    it.each<[string, () => Uint8Array[]]>([
      ["a wrong token", () => [wrong("0".repeat(64)), start]],
      ["a token that is one letter off", () => [wrong(`${agent.token.slice(0, -1)}0`), start]],
      ["the beginning of the token", () => [wrong(agent.token.slice(0, 63)), start]],
      ["the token and more", () => [wrong(`${agent.token}x`), start]],
      ["no token", () => [wrong(""), start]],
      ["another frame before the token", () => [frame("B", list("")), agent.hello()]],
      ["the token in a frame of another type", () => [frame("h", bytesOf(agent.token))]],
      ["a first frame that is too long", () => [header("H", 257)]],
      ["a first frame of 4 GiB", () => [header("H", 0xffffffff)]],
      ["HTTP", () => [bytesOf("GET / HTTP/1.1\r\nhost: x\r\n\r\n")]],
      ["a token twice", () => [agent.hello(), agent.hello()]],
      ["a frame that is too long", () => [agent.hello(), header("X", (1 << 21) + 1)]],
      ["a frame of 4 GiB", () => [agent.hello(), header("X", 0xffffffff)]],
      ["an unknown type", () => [agent.hello(), frame("?", bytesOf("what"))]],
      ["a start of nothing", () => [agent.hello(), frame("X")]],
      ["a start that is cut", () => [agent.hello(), frame("X", bytesOf("\0\0\0\x02ab\0\0\0\xff"))]],
      ["a start that is garbage", () => [agent.hello(), frame("X", new Uint8Array(5000).fill(0xff))]],
      ["a start with fewer words than it says", () => [agent.hello(), frame("X", words("5", "true"))]],
      ["a start of no words", () => [agent.hello(), frame("X", words("0"))]],
      ["an attach of nothing", () => [agent.hello(), frame("A")]],
      ["an attach that is cut", () => [agent.hello(), frame("A", list("pr-x", "0"))]],
    ])("%s", async (_, parts) => {
      expect(String(await agent.says(...parts()))).toBe("");
      await othersFareWell();
    });

    const words = (...command: string[]) => list("pr-x", "", "", "", "0", "1", "1", "0", "0", "", "0", ...command);

    it.each([
      ["output of nowhere", ["a"], new Uint8Array(3)],
      ["a signal that is none", ["S"], new Uint8Array(0)],
      ["half a size", ["Z"], new Uint8Array(1)],
      ["a size of no terminal", ["Z"], new Uint8Array(4)],
      ["what there is not", ["q", "H", "X", "A", "R"], bytesOf("?")],
    ])("not, where it is a process's: %s", async (_, types, payload) => {
      const client = await agent.start(["cat"], { open_stdin: true });
      for (const type of types) client.send(type, payload);
      client.type("still there");
      client.send("E");
      expect(await client.end()).toEqual({ code: 0, signal: 0 });
      expect(String(client.output("stdout"))).toBe("still there");
      await othersFareWell();
    });

    it("a frame that comes byte by byte is a frame", async () => {
      const bytes = Buffer.concat([agent.hello(), frame("T", list("1"))]);
      expect(String(await agent.says(...Array.from(bytes, (byte) => Uint8Array.of(byte))))).toBe(
        String(Buffer.from(frame("t", bytesOf("0")))),
      );
    });
  });

  it("many connections: of those that say nothing the oldest are closed, and others are heard", async () => {
    await Agent.alone([], async (own) => {
      const idle = await Promise.all(
        Array.from({ length: 400 }, async () => {
          const socket = connect(own.port, "127.0.0.1");
          await once(socket, "connect");
          return socket;
        }),
      );
      expect(await own.exec(["echo", "heard"])).toMatchObject({ code: 0, stdout: "heard\n" });
      await sleep(100);
      const open = idle.filter((socket) => socket.readyState === "open");
      expect(open.length).toBeLessThan(300);
      for (const socket of idle) socket.destroy();
      expect(await own.exec(["echo", "heard"])).toMatchObject({ code: 0, stdout: "heard\n" });
    });
  });

  it("150 processes at once, each with its own output and end", async () => {
    const results = await Promise.all(
      Array.from({ length: 150 }, (_, n) => agent.exec(["sh", "-c", `sleep 0.3; echo ${n}; exit ${n}`])),
    );
    expect(results).toEqual(
      Array.from({ length: 150 }, (_, code) => ({ code, signal: 0, stdout: `${code}\n`, stderr: "" })),
    );
    await othersFareWell();
  });

  it("more processes than it can hold: the next is refused, until one has ended", async () => {
    await Agent.alone([], async (own) => {
      const clients = await Promise.all(Array.from({ length: 220 }, () => own.start(["sleep", "60"])));
      await until(() => clients.every(({ pid }) => pid > 0));
      const beyond = await own.start(["true"]);
      await beyond.closed();
      expect(beyond.refusal).toEqual(["exec_failed", "More than 220 processes run in the sandbox."]);
      // What else there is to do goes on meanwhile.
      expect(await own.answers()).toBe(true);
      clients[7]!.signal("SIGKILL");
      expect(await clients[7]!.end()).toMatchObject({ signal: 9 });
      expect(await own.exec(["echo", "room"])).toMatchObject({ stdout: "room\n" });
    });
  });

  /** Starts what cannot be started, with processes before and after it that can. */
  async function withoutRoom(wrapper: string[], detail: RegExp): Promise<void> {
    await Agent.alone(wrapper, async (own) => {
      const clients: Client[] = [];
      let refused: Client | undefined;
      while (!refused && clients.length < 30) {
        const client = await own.start(["cat"], { open_stdin: true });
        await until(() => client.pid > 0 || client.refusal !== undefined);
        if (client.refusal) refused = client;
        else clients.push(client);
      }
      expect(refused?.refusal).toEqual(["exec_failed", expect.stringMatching(detail)]);
      await refused!.closed();
      for (const client of clients) {
        client.type("on");
        await client.shows("on");
        client.send("E");
        expect(await client.end()).toMatchObject({ code: 0 });
      }
      expect(await own.exec(["echo", "room"])).toMatchObject({ code: 0, stdout: "room\n" });
    });
  }

  it("a machine without descriptors: what cannot be started is refused, the rest goes on", () =>
    withoutRoom(["prlimit", "--nofile=40:40"], /^(pipe|\/dev\/null): too many open files/i));

  it.skipIf(!isRoot)("a machine without processes: what cannot be started is refused, the rest goes on", () =>
    withoutRoom(
      ["prlimit", "--nproc=6:6", "setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"],
      /^fork: resource temporarily unavailable/i,
    ),
  );

  describe("when it is to end", () => {
    it("it tells the groups of its processes, and waits for them", async () => {
      await Agent.alone([], async (own) => {
        const careful = `trap 'sleep 0.4; echo bye >${dir}/bye; exit 0' TERM; echo up; while :; do sleep 0.05; done`;
        const clients = [
          await own.start(["sh", "-c", careful]),
          await own.start(["sh", "-c", "echo up; sleep 62 & wait"]),
        ];
        for (const client of clients) await client.shows("up");
        const pids = own.children();
        const groups = pids.flatMap((pid) => [pid, ...childrenOf(pid)]);
        expect(groups.length).toBeGreaterThan(2);
        own.child.kill("SIGTERM");
        await until(() => clients[1]!.exit !== undefined);
        expect(clients[1]!.exit).toEqual({ code: 0, signal: 15 });
        expect(await own.exited).toBe(0);
        expect(readFileSync(`${dir}/bye`, "utf8")).toBe("bye\n");
        await until(() => failureOf("sh", "-c", `kill -0 ${pids.join(" ")}`) !== undefined);
      });
    });

    it("it does so at once where nothing runs", async () => {
      await Agent.alone([], async (own) => {
        const begin = performance.now();
        own.child.kill("SIGTERM");
        expect(await own.exited).toBe(0);
        expect(performance.now() - begin).toBeLessThan(500);
      });
    });

    it("signals of other kinds change nothing", async () => {
      await Agent.alone([], async (own) => {
        for (const signal of ["SIGHUP", "SIGINT", "SIGPIPE"] as const) own.child.kill(signal);
        expect(await own.exec(["sh", "-c", "kill -INT $$"])).toMatchObject({ signal: 2 });
        expect(await own.exec(["sh", "-c", "kill -HUP $$"])).toMatchObject({ signal: 1 });
        expect(await own.exec(["sh", "-c", "kill -PIPE $$"])).toMatchObject({ signal: 13 });
      });
    });
  });

  it.skipIf(noNamespaces !== undefined)(
    "as first process: takes in orphans, and nothing kills it from inside",
    async () => {
      await Agent.alone(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"], async (own) => {
        await own.exec(["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do (sleep 1 >/dev/null 2>&1 &) ; done"]);
        const states = async () => (await own.exec(["sh", "-c", "cat /proc/[0-9]*/stat"])).stdout.trim().split("\n");
        const orphans = async () => (await states()).filter((line) => /\(sleep\) . 1 /.test(line)).length;
        await until(async () => (await orphans()) === 8);
        await until(async () => (await orphans()) === 0);
        const after = await states();
        expect(after[0]).toMatch(/^1 \(sandbar-agent\) /);
        expect(after.filter((line) => /\(sleep\)|\) Z /.test(line))).toEqual([]);
        await own.exec(["sh", "-c", "kill -9 1; kill -STOP 1; kill -INT 1; kill -9 -1"]);
        expect(await own.exec(["echo", "alive"])).toMatchObject({ code: 0, stdout: "alive\n" });
        // It ends as a container is stopped.
        await own.exec(["sh", "-c", "kill -TERM 1"]).catch(() => undefined);
        expect(await own.exited).toBe(0);
      });
    },
  );

  it("a connection that says nothing, which it closes after a while", async () => {
    if (!stranger.closed) await once(stranger, "close");
    await othersFareWell();
  });
});
