import { describe, expect, it } from "vitest";
import { keepWithinBudget } from "../../src/backends/cloudflare/output-budget.ts";
import { WINDOW_BYTES } from "../../src/backends/cloudflare/sqlite-log.ts";
import { asApiError } from "../../src/contract/errors.ts";
import { bytesOf, until, withLab, within, type LyingConnection } from "./lying-agent.ts";

const MIB = 1024 * 1024;
const FRAME = 65_536;

/** Bytes that tell where they are. */
const content = (from: number, length: number) =>
  Uint8Array.from({ length }, (_, index) => ((from + index) * 31 + ((from + index) >> 8)) % 256);

async function pour(connection: LyingConnection, bytes: number, from = 0): Promise<void> {
  for (let at = from; at < from + bytes; at += FRAME)
    await connection.out(at, content(at, Math.min(FRAME, from + bytes - at)));
}

describe("the output in the object's storage", () => {
  it("keeps the last bytes within the window, and the first for answers that carry output", async () => {
    await withLab(async ({ start, storage, reopen }) => {
      const [process, connection] = await start();
      const { stdout } = process.logs;
      process.hurry();
      const length = WINDOW_BYTES + 6 * MIB;
      await pour(connection, length);
      await until(() => stdout.length === length);
      expect(stdout.oldestOffset).toBeGreaterThan(4 * MIB);
      expect(stdout.oldestOffset).toBeLessThanOrEqual(length - WINDOW_BYTES);
      expect(storage.sql.databaseSize).toBeLessThan(WINDOW_BYTES + 4 * MIB);
      expect(() => stdout.read(stdout.oldestOffset - 1, false)).toThrow(
        expect.objectContaining({ code: "output_expired", extra: { oldest_offset: stdout.oldestOffset } }),
      );
      expect(await bytesOf(process, "stdout", length - 1000)).toEqual(content(length - 1000, 1000));
      expect(stdout.first()).toEqual({ bytes: content(0, MIB), isTruncated: true });
      // Another life of the object finds the same.
      const [again] = reopen().all;
      expect([again!.logs.stdout.length, again!.logs.stdout.oldestOffset]).toEqual([length, stdout.oldestOffset]);
      expect(await bytesOf(again!, "stdout", length - 1000)).toEqual(content(length - 1000, 1000));
      await connection.exits(0);
      await within(process.ended, 2_000);
    });
  });

  it("waits for a reader that follows, and for no other", async () => {
    await withLab(async ({ start }) => {
      const [process, connection] = await start({ is_followed: true });
      const reader = process.logs.stdout.read(0, true);
      await pour(connection, WINDOW_BYTES + MIB);
      await until(() => process.logs.stdout.length === WINDOW_BYTES + MIB);
      // Nothing beyond the window is acknowledged while the reader stands at the beginning.
      expect(connection.acknowledged[0]).toBeLessThanOrEqual(WINDOW_BYTES + FRAME);
      for (let read = 0; read < 2 * MIB;) read += (await reader.next())!.length;
      await until(() => connection.acknowledged[0] === WINDOW_BYTES + MIB, "the acknowledgement");
      reader.close();
      await connection.exits(0);
      await within(process.ended, 2_000);
    });
  });

  it("puts many small writes together, exactly", async () => {
    await withLab(async ({ start, storage, reopen }) => {
      const [process, connection] = await start();
      const all = content(0, 20_000);
      for (let at = 0; at < all.length; at++) await connection.out(at, all.subarray(at, at + 1));
      await until(() => process.logs.stdout.length === all.length);
      const { rows } = storage.sql.exec<{ rows: number }>("SELECT count(*) AS rows FROM cf_output").one();
      expect(rows).toBeLessThan(10);
      expect(await bytesOf(process, "stdout")).toEqual(all);
      expect(await bytesOf(reopen().all[0]!, "stdout")).toEqual(all);
      await connection.exits(0);
      await within(process.ended, 2_000);
    });
  });

  it("keeps any bytes as they are, put together or not", async () => {
    await withLab(async ({ start, reopen }) => {
      const [process, connection] = await start();
      const every = Uint8Array.from({ length: 256 }, (_, index) => index);
      const odd = [
        every,
        Uint8Array.of(0, 0, 0),
        Uint8Array.of(0xff, 0xfe, 0xc3),
        Uint8Array.of(0x28),
        every.toReversed(),
      ];
      let at = 0;
      for (const bytes of [...odd, ...odd]) {
        await connection.out(at, bytes);
        at += bytes.length;
        await new Promise((wake) => setTimeout(wake, 15));
      }
      await until(() => process.logs.stdout.length === at);
      const expected = new Uint8Array(await new Blob([...odd, ...odd]).arrayBuffer());
      expect(await bytesOf(process, "stdout")).toEqual(expected);
      expect(await bytesOf(reopen().all[0]!, "stdout")).toEqual(expected);
      await connection.exits(0);
      await within(process.ended, 2_000);
    });
  });

  it("stays within the bound of the sandbox: what has ended goes first, then what runs is shortened", async () => {
    await withLab(async ({ start, store, processes }) => {
      const [ended, first] = await start();
      await pour(first, 2 * MIB);
      await first.exits(0);
      await within(ended.ended, 2_000);
      const [running, second] = await start();
      await pour(second, 3 * MIB);
      await until(() => running.logs.stdout.length === 3 * MIB);
      expect(store.outputBytes).toBe(5 * MIB);
      keepWithinBudget(store, processes, 4 * MIB);
      expect([ended.logs.stdout.oldestOffset, running.logs.stdout.oldestOffset]).toEqual([2 * MIB, 0]);
      expect(store.outputBytes).toBe(3 * MIB);
      keepWithinBudget(store, processes, MIB);
      expect(running.logs.stdout.oldestOffset).toBeGreaterThan(2 * MIB);
      expect(store.outputBytes).toBeLessThan(MIB);
      expect(await bytesOf(running, "stdout", 3 * MIB - 100)).toEqual(content(3 * MIB - 100, 100));
      // It goes on from there.
      await pour(second, FRAME, 3 * MIB);
      await until(() => running.logs.stdout.length === 3 * MIB + FRAME);
      expect(await bytesOf(running, "stdout", 3 * MIB)).toEqual(content(3 * MIB, FRAME));
      expect(asApiError(errorOf(() => running.logs.stdout.read(0, false)))?.code).toBe("output_expired");
      await second.exits(0);
      await within(running.ended, 2_000);
    });
  });
});

function errorOf(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return error;
  }
}
