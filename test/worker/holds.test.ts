import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Holds, IN_FLIGHT_BYTES, RETURN_MS, STALL_MS, type HoldingReader } from "../../src/process/holds.ts";

/** A reader that has come to its place and goes on by hand. */
class Reader implements HoldingReader {
  offset: number;
  until = Infinity;
  readonly from: number;
  readonly cameAt = Date.now();
  movedAt = Date.now();
  constructor(offset: number) {
    this.offset = offset;
    this.from = offset;
  }

  move(offset: number): void {
    this.offset = offset;
    this.movedAt = Date.now();
  }
}

describe("whom a process waits for", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const arrive = (holds: Holds, offset: number) => {
    const reader = new Reader(offset);
    holds.arrive(reader);
    return reader;
  };

  it("is one that was cut off, until it is back behind where it was lost", () => {
    const holds = new Holds();
    const cut = arrive(holds, 0);
    cut.move(1000);
    holds.leave(cut, true);
    expect(holds.lowest()).toBe(1000);
    const back = arrive(holds, 900);
    back.move(5000);
    expect(holds.lowest()).toBe(5000);
  });

  it("is one that was cut off and does not return, for a while", () => {
    const holds = new Holds();
    const cut = arrive(holds, 0);
    holds.leave(cut, true);
    vi.advanceTimersByTime(RETURN_MS);
    expect(holds.lowest()).toBe(0);
    vi.advanceTimersByTime(1);
    expect(holds.lowest()).toBeUndefined();
  });

  it("is nobody who came to the end, or left by itself", () => {
    const holds = new Holds();
    holds.leave(arrive(holds, 0), false);
    expect(holds.lowest()).toBeUndefined();
  });

  it("is not one that was back before its loss was noticed", () => {
    const holds = new Holds();
    holds.expectAnyone(0);
    const cut = arrive(holds, 0);
    cut.move(1000);
    const back = arrive(holds, 900);
    back.move(2000);
    holds.leave(cut, true);
    expect(holds.lowest()).toBe(2000);
  });

  it("is not one whose loss is noticed long after it took the last, and came back", () => {
    const holds = new Holds();
    const cut = arrive(holds, 0);
    cut.move(1000);
    vi.advanceTimersByTime(1000);
    const back = arrive(holds, 1000);
    vi.advanceTimersByTime(600_000);
    back.move(2000);
    holds.leave(cut, true);
    expect(holds.lowest()).toBe(2000);
  });

  it("is one that was cut off beside another that reads since long ago, or that began behind its place", () => {
    const holds = new Holds();
    const cut = arrive(holds, 0);
    const other = arrive(holds, 0);
    vi.advanceTimersByTime(STALL_MS + 1);
    const later = arrive(holds, 2000);
    cut.move(1000);
    for (const reader of [other, later]) reader.move(3000);
    holds.leave(cut, true);
    expect(holds.lowest()).toBe(1000);
  });

  it("is one that was cut off beside another that came before it, or stands further back than it can", () => {
    const holds = new Holds();
    const earlier = arrive(holds, 0);
    vi.advanceTimersByTime(1000);
    const cut = arrive(holds, 0);
    cut.move(2 * IN_FLIGHT_BYTES);
    const behind = arrive(holds, IN_FLIGHT_BYTES - 1);
    for (const reader of [earlier, behind]) reader.move(3 * IN_FLIGHT_BYTES);
    holds.leave(cut, true);
    expect(holds.lowest()).toBe(2 * IN_FLIGHT_BYTES);
  });

  it("stands for one loss by one arrival", () => {
    const holds = new Holds();
    const [first, second] = [arrive(holds, 0), arrive(holds, 0)];
    vi.advanceTimersByTime(STALL_MS + 1);
    first.move(1000);
    second.move(1100);
    const back = arrive(holds, 900);
    back.move(5000);
    holds.leave(first, true);
    expect(holds.lowest()).toBe(1100);
    holds.leave(second, true);
    expect(holds.lowest()).toBe(1100);
    arrive(holds, 1050).move(6000);
    expect(holds.lowest()).toBe(5000);
  });
});
