import { describe, expect, it } from "vitest";
import type { AgentConnection } from "../../src/backends/cloudflare/agent/connection.ts";
import { numberAt } from "../../src/backends/cloudflare/agent/frames.ts";
import { OutputIntake } from "../../src/backends/cloudflare/output-intake.ts";
import { WINDOW_BYTES } from "../../src/backends/cloudflare/sqlite-log.ts";
import { CloudflareStore } from "../../src/backends/cloudflare/store.ts";
import { MAIN_PROCESS_ID, newId } from "../../src/contract/ids.ts";
import { OUTPUT_STREAMS } from "../../src/contract/process.ts";
import { bytesOf, encode, type LyingConnection, outputPayload, textOf, until, within, withLab } from "./lying-agent.ts";

const MIB = 1024 * 1024;
const FRAME_BYTES = 65_536;

const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

/** What is at this place of an output that tells its offsets apart. */
const pattern = (from: number, to: number) =>
  Uint8Array.from({ length: to - from }, (_, index) => (((from + index) >> 8) ^ ((from + index) * 7)) & 0xff);

/** Says so much of the pattern, whatever is acknowledged, as far as it is listened to. The answer is how much that was. */
async function pour(connection: LyingConnection, from: number, to: number): Promise<number> {
  for (let at = from; at < to; at += FRAME_BYTES) {
    const end = Math.min(to, at + FRAME_BYTES);
    if (!(await connection.out(at, pattern(at, end)))) return at;
  }
  return to;
}

describe("the output of a process in the object's storage", () => {
  it("is held for who is announced, up to a bound that no agent breaks", async () => {
    await withLab(async ({ agent, storage, start }) => {
      const [process, connection] = await start({ is_followed: true });
      const { stdout } = process.logs;
      const before = storage.sql.databaseSize;
      await pour(connection, 0, WINDOW_BYTES + MIB);
      await until(() => stdout.length === WINDOW_BYTES + MIB);
      expect(connection.acknowledged[0]).toBeGreaterThan(WINDOW_BYTES - MIB);
      expect(connection.acknowledged[0]).toBeLessThanOrEqual(WINDOW_BYTES);
      // An honest agent has stopped at a MiB more than is acknowledged. This one goes on, and on.
      expect(await pour(connection, WINDOW_BYTES + MIB, 96 * MIB)).toBeLessThan(64 * MIB);
      for (let time = 0; time < 2; time++) {
        const again = await agent.greeted("A");
        const from = Number(again.words[1]);
        await again.started();
        expect(await pour(again, from, 96 * MIB)).toBeLessThan(64 * MIB);
      }
      expect(storage.sql.databaseSize - before).toBeLessThan(64 * MIB);
      // What is there is right, for the reader that comes.
      const { length } = stdout;
      expect(stdout.oldestOffset).toBe(0);
      const reader = stdout.read(0, true);
      for (let offset = 0; offset < length;) {
        const bytes = (await reader.next())!;
        if (offset % (3 * MIB) < 100_000) expect(bytes).toEqual(pattern(offset, offset + bytes.length));
        offset += bytes.length;
      }
      reader.close();
    });
  });

  it("is acknowledged for each stream by itself", async () => {
    await withLab(async ({ start }) => {
      const [process, connection] = await start({ is_followed: true });
      await connection.out(0, "some", "e");
      await pour(connection, 0, WINDOW_BYTES + MIB);
      await until(() => process.logs.stdout.length === WINDOW_BYTES + MIB);
      const [stdout] = connection.acknowledged;
      await connection.out(4, "more", "e");
      await until(() => connection.acknowledged[1] === 8, "the acknowledgement");
      expect(connection.acknowledged[0]).toBeGreaterThanOrEqual(stdout);
      expect(connection.acknowledged[0]).toBeLessThanOrEqual(WINDOW_BYTES);
    });
  });

  it("stays acknowledged when the acknowledgement of the other stream overtakes", async () => {
    await withLab(async ({ store }) => {
      const { seq } = store.addProcess({ processId: newId("process"), isTerminal: false });
      const intake = new OutputIntake(store, seq, undefined, () => undefined);
      let latest = new Uint8Array(0);
      intake.connect({ tellLatest: (one: Uint8Array) => (latest = one.slice()) } as unknown as AgentConnection);
      for (let at = 0; at < WINDOW_BYTES; at += FRAME_BYTES) {
        intake.take("stdout", outputPayload(at, new Uint8Array(FRAME_BYTES)));
      }
      // From here on stdout waits for this reader.
      const reader = intake.logs.stdout.read(0, true);
      intake.take("stderr", outputPayload(0, encode("x")));
      intake.settle();
      expect([numberAt(latest, 5), numberAt(latest, 13)]).toEqual([WINDOW_BYTES, 1]);
      reader.close();
      intake.end();
    });
  });

  it.each(["at once", "a little later"])("is asked for again when the storage does not take it %s", async (when) => {
    await withLab(async ({ agent, storage, store, start }) => {
      const [process, connection] = await start();
      await connection.out(0, "first ");
      await until(() => process.logs.stdout.length === 6, "the first output");
      // Who talks without end is put together, which takes a while.
      const before = when === "at once" ? 0 : 30;
      for (let at = 0; at < before; at++) await connection.out(6 + at, ".");
      await until(() => process.logs.stdout.length === 6 + before);
      storage.sql.exec("CREATE TRIGGER full BEFORE UPDATE ON cf_output BEGIN SELECT RAISE(ABORT, 'full'); END");
      await connection.out(6 + before, "second ");
      await connection.out(0, "other ", "e");
      await until(() => connection.isClosed, "the end of the connection");
      expect(process.logs.stdout.length).toBe(6 + before);
      expect(store.outputBytes).toBeLessThanOrEqual(12 + before);
      storage.sql.exec("DROP TRIGGER full");
      const again = await agent.greeted("A");
      const [, stdout, stderr] = again.words.map(Number) as [number, number, number];
      await again.started();
      const whole = `first ${".".repeat(before)}second `;
      await again.out(stdout, whole.slice(stdout));
      if (stderr < 6) await again.out(stderr, "other ".slice(stderr), "e");
      await again.exits(0);
      await within(process.ended, 2_000);
      expect([await textOf(process, "stdout"), await textOf(process, "stderr")]).toEqual([whole, "other "]);
    });
  });

  it("is written seldom for who talks without end, and at once for an answer to somebody's input", async () => {
    await withLab(async ({ start, store }) => {
      const [process, connection] = await start({}, true);
      const writes: string[] = [];
      const { appendOutput, extendOutput } = store;
      store.appendOutput = (...all) => (writes.push(decode(all[3])), appendOutput.apply(store, all));
      store.extendOutput = (...all) => (writes.push(decode(all[3])), extendOutput.apply(store, all));
      const began = Date.now();
      let at = 0;
      for (; Date.now() < began + 1_000; at++) {
        await connection.out(at, ".");
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await until(() => process.logs.stdout.length === at);
      expect(at).toBeGreaterThan(100);
      expect(writes.length).toBeLessThan(21 + (Date.now() - began) / 20);
      void process.input!.offer(encode("?"));
      await connection.hears("I");
      await connection.out(at, "a");
      await connection.out(at + 1, "b");
      await until(() => process.logs.stdout.length === at + 2);
      expect(writes.slice(-2)).toEqual(["a", "b"]);
    });
  });

  it("is written at once as often as there was input, and no oftener", async () => {
    await withLab(async ({ store }) => {
      const { seq } = store.addProcess({ processId: newId("process"), isTerminal: false });
      const intake = new OutputIntake(store, seq, undefined, () => undefined);
      const { stdout } = intake.logs;
      let at = 0;
      const say = () => intake.take("stdout", outputPayload(at++, encode("x")));
      for (let time = 0; time < 100; time++) say();
      expect(stdout.length).toBeGreaterThanOrEqual(20);
      expect(stdout.length).toBeLessThan(50);
      for (let turn = 0; turn < 50; turn++) {
        intake.expectAnswer();
        say();
        expect(stdout.length).toBe(at);
      }
      intake.end();
    });
  });

  it("comes to who reads along, write by write", async () => {
    await withLab(async ({ start }) => {
      const [process, connection] = await start();
      const reader = process.logs.stdout.read(0, true);
      for (const [offset, word] of [
        [0, "a"],
        [1, "bc"],
        [3, "def"],
      ] as const) {
        await connection.out(offset, word);
        expect(new TextDecoder().decode((await within(reader.next(), 1_000))!)).toBe(word);
      }
      const last = reader.next();
      await connection.exits(0);
      expect(await within(last, 1_000)).toBeUndefined();
      reader.close();
    });
  });

  it("grows within a piece byte for byte, whatever the bytes are", async () => {
    const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const pieces = [
      all,
      all.toReversed(),
      new Uint8Array(1),
      new Uint8Array(300),
      Uint8Array.of(0xff, 0xfe, 0x00, 0xd8),
      Uint8Array.of(0xed, 0xa0, 0x80),
      Uint8Array.of(0xf0, 0x9f),
      Uint8Array.of(0x98, 0x80),
      Uint8Array.of(0xc0, 0x80),
      encode("'; DROP TABLE cf_output; --\0é"),
      Uint8Array.of(0x80),
      Uint8Array.of(0xef, 0xbb, 0xbf),
      Uint8Array.of(0x0d, 0x0a, 0x00),
      new Uint8Array(40_000).fill(0xfe),
      new Uint8Array(1),
    ];
    await withLab(async ({ store }) => {
      const { seq } = store.addProcess({ processId: newId("process"), isTerminal: false });
      for (const [turn, stream] of OUTPUT_STREAMS.entries()) {
        const expected = [...pieces[turn]!];
        store.appendOutput(seq, stream, 0, pieces[turn]!);
        for (const piece of pieces.slice(turn + 1)) {
          store.extendOutput(seq, stream, 0, piece);
          expected.push(...piece);
          expect(store.extent(seq, stream)).toEqual({ oldest: 0, length: expected.length });
          expect(store.output(seq, stream, expected.length - 1)?.bytes).toEqual(Uint8Array.from(expected));
        }
      }
    });
  });

  it("is the same in another life of the object, of a process that runs and of one that has ended", async () => {
    await withLab(async ({ agent, start, reopen }) => {
      const [long, first] = await start();
      const [short, second] = await start();
      for (const process of [long, short]) process.hurry();
      const total = 18 * MIB + 777;
      await pour(first, 0, total);
      await first.out(0, "err", "e");
      await pour(second, 0, 2 * MIB + 5);
      await second.exits(0);
      await within(short.ended, 5_000);
      await until(() => long.logs.stdout.length === total && long.logs.stderr.length === 3);

      const again = reopen();
      for (const before of [long, short]) {
        const after = await again.find(before.id);
        for (const stream of OUTPUT_STREAMS) {
          const [old, log] = [before.logs[stream], after.logs[stream]];
          expect([log.length, log.oldestOffset, log.hasEnded]).toEqual([old.length, old.oldestOffset, old.hasEnded]);
          expect(log.first()).toEqual(old.first());
          const kept = await bytesOf(after, stream, log.oldestOffset);
          expect(kept).toEqual(
            stream === "stdout" ? pattern(log.oldestOffset, log.length) : encode("err").slice(0, log.length),
          );
        }
      }
      expect((await again.find(short.id)).exit).toEqual(short.exit);

      // The one that runs goes on where it was.
      const resuming = again.resume();
      const connection = await agent.greeted("A");
      expect(connection.words).toEqual([long.id, String(total), "3"]);
      await connection.started();
      await resuming;
      await connection.out(total, pattern(total, total + 10));
      await connection.out(total + 10, pattern(total + 10, total + 30));
      await connection.exits(4);
      const resumed = await again.find(long.id);
      await within(resumed.ended, 5_000);
      expect(await bytesOf(resumed, "stdout", total - 100)).toEqual(pattern(total - 100, total + 30));
      // The life before is over, as far as the agent goes.
      first.hangUp();
      await (await agent.greeted("A")).refuses("process_not_found", "");
      await within(long.ended, 5_000);
    });
  });

  it("goes with its process, of which only the last thousand that ended are known", async () => {
    await withLab(async ({ store, storage, reopen, agent }) => {
      const exit = { returncode: 0, timedOut: false, reason: "exited" as const, at: 1, stdinOffset: 0 };
      const addEnded = (processId: string) => {
        const kept = store.addProcess({ processId, isTerminal: false });
        store.appendOutput(kept.seq, "stdout", 0, encode(processId));
        store.saveProcess({ ...kept, exit: { ...exit, stdoutBytes: processId.length, stderrBytes: 0 } });
      };
      addEnded(MAIN_PROCESS_ID);
      const ids = Array.from({ length: 1_003 }, () => newId("process"));
      for (const id of ids) addEnded(id);

      const processes = reopen();
      const starting = processes.start({ process_id: newId("process"), command: ["true"], env: {} });
      const connection = await agent.greeted("X");
      await connection.started();
      const { process } = await starting;
      await connection.exits(0);
      await until(() => processes.all.length === 1_001);
      expect(processes.all.map(({ id }) => id)).toEqual([MAIN_PROCESS_ID, ...ids.slice(4), process.id]);
      expect(new CloudflareStore(storage).processes().map(({ processId }) => processId)).toEqual(
        processes.all.map(({ id }) => id),
      );
      const { rows } = storage.sql.exec<{ rows: number }>("SELECT count(*) AS rows FROM cf_output").one();
      expect(rows).toBe(1_000);
      expect(await textOf(processes.all[1]!)).toBe(ids[4]);
    });
  });
});
