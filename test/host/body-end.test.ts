import { expect, test } from "vitest";
import { bodyEnd } from "../../src/host/body-end.ts";

const CHUNKS = `5\r\nhello\r\n1a\r\n${"x".repeat(26)}\r\n0\r\n\r\n`;

test.each([1, 2, 3, 5, 7, 1000])("chunks end where they say, %i bytes seen at once", (size) => {
  const end = bodyEnd(undefined);
  const all = Buffer.from(`${CHUNKS}POST / HTTP/1.1\r\n`);
  let taken = 0;
  for (let at = 0; at < all.length; at += size) {
    expect(end.isWhole).toBe(taken === CHUNKS.length);
    taken += end.look(all.subarray(at, at + size))!;
  }
  expect([taken, end.isWhole]).toEqual([CHUNKS.length, true]);
});

test("what is left of a chunk may pass unseen", () => {
  const end = bodyEnd(undefined);
  expect(end.look(Buffer.from("10\r\nabc"))).toBe(7);
  expect(end.left).toBe(15);
  end.skip(15);
  expect([end.left, end.isWhole]).toEqual([0, false]);
  expect(end.look(Buffer.from("0\r\n"))).toBe(3);
  end.skip(2);
  expect(end.isWhole).toBe(true);
});

test.each(["hello\r\n", "\r\n", "-1\r\n", "1".repeat(14)])("what begins with %j is no chunk", (text) => {
  expect(bodyEnd(undefined).look(Buffer.from(text))).toBeUndefined();
});

test("a length ends where it says", () => {
  const end = bodyEnd(10);
  expect([end.look(Buffer.alloc(4)), end.left, end.isWhole]).toEqual([4, 6, false]);
  end.skip(5);
  expect([end.look(Buffer.alloc(4)), end.isWhole, end.look(Buffer.alloc(4))]).toEqual([1, true, 0]);
  expect(bodyEnd(0).isWhole).toBe(true);
});
