import { closeSync, constants, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { lastOutput } from "../../src/host/last-output.ts";
import { makeFifo } from "../../src/host/linux/libc.ts";
import { LogBudget } from "../../src/host/logs/log-budget.ts";
import { ProcessLog } from "../../src/host/logs/process-log.ts";
import { Pump } from "../../src/host/logs/pump.ts";
import { MIB } from "./embedded-host.ts";

test("what a process had written by its end is kept, however long the disk takes", async () => {
  const dir = mkdtempSync("/tmp/sandbar-last-");
  const pump = new Pump();
  const budget = new LogBudget(MIB);
  const pipe = (name: string) => {
    makeFifo(`${dir}/${name}`);
    const reading = openSync(`${dir}/${name}`, constants.O_RDONLY | constants.O_NONBLOCK);
    return { reading, writing: openSync(`${dir}/${name}`, constants.O_WRONLY) };
  };
  try {
    // The pump opens a segment that is a FIFO without a reader, and stands still there as at a slow disk.
    makeFifo(`${dir}/slow.out.0`);
    const [slow, own] = [pipe("slow"), pipe("own")];
    void new ProcessLog({ base: `${dir}/slow.out`, budget }).carry(pump, slow.reading);
    writeSync(slow.writing, "x");
    await sleep(500);

    const log = new ProcessLog({ base: `${dir}/own.out`, budget });
    const output = log.carry(pump, own.reading);
    writeSync(own.writing, "last words");
    // The writing end stays open, as when something in the background still holds it.
    const isThrough = lastOutput([log], output).then(() => true);
    expect(await Promise.race([isThrough, sleep(1000, false)])).toBe(false);
    const reader = openSync(`${dir}/slow.out.0`, constants.O_RDONLY | constants.O_NONBLOCK);
    expect(await Promise.race([isThrough, sleep(2000, false)])).toBe(true);
    expect(log.first().bytes.toString()).toBe("last words");
    for (const fd of [slow.writing, own.writing, reader]) closeSync(fd);
  } finally {
    await pump.end();
    rmSync(dir, { recursive: true });
  }
});
