import { Gathering } from "./gathering.ts";

/** Writes bytes, which are its own until its promise settles. */
type Write = (bytes: Uint8Array) => Promise<void>;

/** More than comes at once. */
const PIECE_BYTES = 524_288;
const GATHERED_BYTES = 1_048_576;
const READ_BYTES = 131_072;
/** For the head of a chunk, and for its end. */
const CHUNK_ROOM = 10;
const LINE_END = "\r\n";
const encoder = new TextEncoder();
const CHUNK_END = encoder.encode(LINE_END);
const LAST_CHUNK = encoder.encode(`0${LINE_END}${LINE_END}`);

/** Writes a body of known length as it comes, or, where nobody looks at it before its end, in pieces of at least so many bytes. */
export async function sendPieces(body: ReadableStream<Uint8Array>, write: Write, least = 1): Promise<void> {
  const reader = body.getReader({ mode: "byob" });
  try {
    for (let buffer = new ArrayBuffer(PIECE_BYTES); ;) {
      const { value, done } = await reader.readAtLeast(least, new Uint8Array(buffer));
      if (value && value.length > 0) await write(value);
      if (done) return;
      buffer = value.buffer;
    }
  } finally {
    reader.releaseLock();
  }
}

/** Writes a body in the chunks of HTTP/1.1, as it comes. Each chunk of the sender's is a read of its own: they are gathered. */
export async function sendChunks(body: ReadableStream<Uint8Array>, write: Write): Promise<void> {
  const reader = body.getReader({ mode: "byob" });
  const gathering = new Gathering({ size: GATHERED_BYTES, room: CHUNK_ROOM }, (bytes) => write(chunkOf(bytes)));
  try {
    for (let buffer = new ArrayBuffer(READ_BYTES); ;) {
      const { value, done } = await reader.read(new Uint8Array(buffer));
      if (done) break;
      if (gathering.add(value).isFull) await gathering.flush();
      buffer = value.buffer;
    }
  } finally {
    reader.releaseLock();
  }
  await gathering.end();
  await write(LAST_CHUNK);
}

/** The bytes with what makes a chunk of them, for which there is room around them. */
function chunkOf({ buffer, byteOffset, length }: Uint8Array): Uint8Array {
  const head = encoder.encode(length.toString(16) + LINE_END);
  const chunk = new Uint8Array(buffer, byteOffset - head.length, head.length + length + CHUNK_END.length);
  chunk.set(head);
  chunk.set(CHUNK_END, head.length + length);
  return chunk;
}
