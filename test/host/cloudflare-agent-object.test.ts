import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AgentConnection } from "../../src/backends/cloudflare/agent/connection.ts";
import { frame, list, stringsOf } from "../../src/backends/cloudflare/agent/frames.ts";
import { readJoined } from "../../src/backends/cloudflare/agent/joined.ts";
import { startFrame } from "../../src/backends/cloudflare/start-frame.ts";
import { newId } from "../../src/contract/ids.ts";
import { Agent, noPerl } from "./cloudflare-agent.ts";
import { listening, until } from "./signed-host.ts";

describe.skipIf(noPerl !== undefined)(
  "Cloudflare's agent, for an object that comes and goes",
  { timeout: 20_000 },
  () => {
    const dir = mkdtempSync("/tmp/sandbar-agent-object-");
    let agent: Agent;

    beforeAll(async () => {
      agent = await Agent.start();
    });
    afterAll(async () => {
      await agent?.end();
      rmSync(dir, { recursive: true });
    });

    /** What it says first of a process, on a connection of its own. */
    async function joined(type: string, payload: Uint8Array) {
      const connection = await AgentConnection.open(agent, type, payload);
      const answer = await connection.answer("r", ["process_not_found"]);
      return { connection, ...readJoined(answer.payload) };
    }

    it("says the object's note of a process to who attaches, as long as it knows it", async () => {
      const spec = { process_id: newId("process"), command: ["cat"], env: {}, open_stdin: true };
      const note = JSON.stringify({ killAt: 1, text: "ü\0\n" });
      const started = await joined("X", startFrame(spec, note));
      expect(started).toMatchObject({ received: 0, isInputOpen: true, failure: undefined, note });
      await started.connection.send(frame("I", new TextEncoder().encode("four")));
      await started.connection.answer("i").then(() => started.connection.answer("i"));
      started.connection.close();
      const attached = await joined("A", list(spec.process_id, "0", "0"));
      expect(attached).toMatchObject({ received: 4, isInputOpen: true, note });
      // A start of the same id changes nothing of it.
      const again = await joined("X", startFrame({ ...spec, command: ["true"] }, "another"));
      expect(again).toMatchObject({ received: 4, note });
      again.connection.tell(frame("S", Uint8Array.of(9)));
      again.connection.close();
      await until(async () => agent.children().length === 0);
      const ended = await joined("A", list(spec.process_id, "0", "0"));
      expect(ended).toMatchObject({ isInputOpen: false, note });
      ended.connection.close();
    });

    it("says why a program does not run to who attaches later, too", async () => {
      const spec = { process_id: newId("process"), command: ["nope"], env: {} };
      const started = await joined("X", startFrame(spec));
      expect(started.failure).toBe("nope: not found");
      started.connection.close();
      const attached = await joined("A", list(spec.process_id, "0", "0"));
      expect(attached.failure).toBe("nope: not found");
      attached.connection.close();
      const client = await agent.attach(spec.process_id, { stdout: 0, stderr: 0 });
      expect(await client.end()).toEqual({ code: 127, signal: 0 });
      expect(String(client.output("stderr"))).toBe("nope: not found\n");
    });

    it("kills the group itself when its time is long up and nobody has", async () => {
      const begin = performance.now();
      const client = await agent.start(["sh", "-c", "trap '' TERM; sleep 60 & sleep 60"], { timeout_ms: 100 });
      expect(await client.end()).toEqual({ code: 0, signal: 9 });
      const tookMs = performance.now() - begin;
      expect(tookMs).toBeGreaterThan(3_000);
      expect(tookMs).toBeLessThan(9_000);
    });

    it("has no shell run what is of no format", async () => {
      writeFileSync(`${dir}/no-format`, "echo by a shell\n");
      writeFileSync(`${dir}/empty`, "");
      for (const name of ["no-format", "empty"]) chmodSync(`${dir}/${name}`, 0o755);
      for (const path of [`${dir}/no-format`, `${dir}/empty`]) {
        const stderr = `${path}: exec format error\n`;
        expect(await agent.exec([path])).toEqual({ code: 126, signal: 0, stdout: "", stderr });
      }
      expect(await agent.exec(["no-format"], { env: { PATH: `/nowhere:${dir}:/usr/bin:/bin` } })).toMatchObject({
        code: 126,
      });
    });

    it("counts the connections of ports", async () => {
      const count = async (...ports: number[]) => {
        const connection = await AgentConnection.open(agent, "C", list(...ports.map(String)));
        const { payload } = await connection.answer("c").finally(() => connection.close());
        return stringsOf(payload);
      };
      const server = createServer((socket) => socket.on("error", () => undefined));
      const port = await listening(server);
      expect(await count(port, 1)).toEqual(["0", "0"]);
      const sockets = [connect(port, "127.0.0.1"), connect(port, "127.0.0.1")];
      await Promise.all(sockets.map((socket) => once(socket, "connect")));
      await sleep(50);
      expect(await count(port, 1, agent.port)).toEqual(["2", "0", expect.stringMatching(/^[1-9]/)]);
      for (const socket of sockets) socket.destroy();
      await until(async () => (await count(port))[0] === "0");
      expect(await count()).toEqual([]);
      server.close();
    });
  },
);
