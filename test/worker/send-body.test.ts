import { expect, it } from "vitest";
import { fetchWithBodyApart } from "../../src/api/body-apart.ts";
import { sendChunks, sendPieces } from "../../src/api/send-body.ts";

const MIB = 1_048_576;
const pattern = (size: number) => Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 9)) & 0xff);

/** A body that is written by hand. */
function bodyByHand() {
  const { readable, writable } = new IdentityTransformStream();
  return { body: readable as ReadableStream<Uint8Array>, writer: writable.getWriter() };
}

/** Takes what is written, whose memory is soon another's. */
function taker() {
  let taken = new Uint8Array(0);
  return {
    write: async (bytes: Uint8Array) => {
      const all = new Uint8Array(taken.length + bytes.length);
      all.set(taken);
      all.set(bytes, taken.length);
      taken = all;
    },
    get bytes() {
      return taken;
    },
  };
}

/** What a server reads from the chunks that have come so far. */
function unchunked(bytes: Uint8Array): { body: Uint8Array; hasEnded: boolean } {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const line = new TextDecoder().decode(bytes.subarray(at, at + 12)).split("\r\n", 1)[0]!;
    expect(line).toMatch(/^(0|[1-9a-f][0-9a-f]*)$/);
    const size = parseInt(line, 16);
    const from = at + line.length + 2;
    parts.push(bytes.slice(from, from + size));
    at = from + size + 2;
    expect([...bytes.subarray(at - 2, at)]).toEqual([13, 10]);
    if (size === 0) return { body: joined(parts), hasEnded: true };
  }
  return { body: joined(parts), hasEnded: false };
}

function joined(parts: Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

it.each(["chunks", "pieces"])("a body in %s arrives whole, whatever sizes it comes in", async (form) => {
  const { body, writer } = bodyByHand();
  const taken = taker();
  const all = pattern(7 * MIB + 5);
  const sending = form === "chunks" ? sendChunks(body, taken.write) : sendPieces(body, taken.write);
  for (let at = 0, size = 1; at < all.length; at += size, size = (size * 7) % 999_983) {
    await writer.write(all.slice(at, at + size));
  }
  await writer.close();
  await sending;
  const got = form === "chunks" ? unchunked(taken.bytes) : { body: taken.bytes, hasEnded: true };
  expect(got.hasEnded).toBe(true);
  expect(got.body.length).toBe(all.length);
  expect(got.body.every((byte, at) => byte === all[at])).toBe(true);
});

it.each(["chunks", "pieces"])("nothing of a body in %s waits for what is not there yet", async (form) => {
  const { body, writer } = bodyByHand();
  const taken = taker();
  const sent = () => (form === "chunks" ? unchunked(taken.bytes).body : taken.bytes).length;
  const sending = form === "chunks" ? sendChunks(body, taken.write) : sendPieces(body, taken.write);
  let length = 0;
  for (const size of [1, 100_000, 3 * MIB, 7, MIB, 1]) {
    await writer.write(pattern(size));
    length += size;
    await expect.poll(sent, { timeout: 2000 }).toBe(length);
  }
  await writer.close();
  await sending;
});

it.each(["chunks", "pieces"])("a body in %s that breaks off has no end", async (form) => {
  const { body, writer } = bodyByHand();
  const taken = taker();
  const sending = form === "chunks" ? sendChunks(body, taken.write) : sendPieces(body, taken.write);
  sending.catch(() => undefined);
  await writer.write(pattern(1000));
  await writer.abort(new Error("the client has gone"));
  await expect(sending).rejects.toThrow("the client has gone");
  if (form === "chunks") expect(unchunked(taken.bytes).hasEnded).toBe(false);
});

it.each(["chunks", "pieces"])("a body in %s ends with what does not take it", async (form) => {
  const { body, writer } = bodyByHand();
  const refuse = async () => {
    throw new Error("no more");
  };
  const sending = form === "chunks" ? sendChunks(body, refuse) : sendPieces(body, refuse);
  sending.catch(() => undefined);
  for (let round = 0; round < 4; round++) writer.write(pattern(MIB)).catch(() => undefined);
  await expect(sending).rejects.toThrow("no more");
});

it("a body that trickles in chunks ends with what does not take it, too", async () => {
  const { body, writer } = bodyByHand();
  const sending = sendChunks(body, () => Promise.reject(new Error("no more")));
  sending.catch(() => undefined);
  const trickle = setInterval(() => writer.write(pattern(1)).catch(() => undefined), 20);
  await expect(sending).rejects.toThrow("no more");
  clearInterval(trickle);
});

it("a body is left alone where no connection can be had for it", async () => {
  const body = new Response(pattern(MIB)).body!;
  const target = { url: "http://127.0.0.1:1/v1", headers: {} };
  const sent = { method: "POST", body, size: MIB, signal: new AbortController().signal };
  expect(await fetchWithBodyApart(target, sent)).toBeUndefined();
  expect(await fetchWithBodyApart({ ...target, body: { id: "x", ...target } }, sent)).toBeUndefined();
  expect(body.locked).toBe(false);
});
