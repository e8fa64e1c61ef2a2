import { expect, it } from "vitest";
import { writeStdin } from "../../src/api/write-stdin.ts";
import type { StdinOptions } from "../../src/backends/backend.ts";

/** A process that takes in what it is given, and how. */
function taker() {
  const given: (StdinOptions & { text: string })[] = [];
  const write = async (body: ReadableStream<Uint8Array>, options: StdinOptions) => {
    // As behind RPC: a body that breaks off here looks there as if it had ended.
    const text = await new Response(body).text().catch(() => "half");
    given.push({ ...options, text });
    return { offset: (options.offset ?? 0) + text.length, closed: options.eof };
  };
  return { given, write };
}

const bodyOf = (text: string, end: "whole" | "cut") =>
  new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new TextEncoder().encode(text)),
    pull: (controller) => (end === "whole" ? controller.close() : controller.error(new Error("cut"))),
  });

it("ends the input behind a body that came whole", async () => {
  const { given, write } = taker();
  expect(await writeStdin(write, bodyOf("abc", "whole"), { offset: 5, eof: true })).toEqual({
    offset: 8,
    closed: true,
  });
  expect(given).toEqual([
    { text: "abc", offset: 5, eof: false },
    { text: "", offset: 8, eof: true },
  ]);
});

it("never ends the input behind a body that broke off", async () => {
  const { given, write } = taker();
  await expect(writeStdin(write, bodyOf("abc", "cut"), { offset: undefined, eof: true })).rejects.toThrow();
  expect(given.some(({ eof }) => eof)).toBe(false);
});

it("asks once where nothing has to be told apart", async () => {
  const { given, write } = taker();
  await writeStdin(write, null, { offset: 3, eof: true });
  await writeStdin(write, bodyOf("abc", "whole"), { offset: undefined, eof: false });
  expect(given.map(({ eof, text }) => [eof, text])).toEqual([
    [true, ""],
    [false, "abc"],
  ]);
});
