import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import { readInto, secondOf } from "./raw-socket.ts";

/** From here on a body is worth what it costs to turn to it. */
const BULK_BYTES = 1_048_576;
/** What is read at once, into memory that the next read uses again. */
const BUFFER_BYTES = 262_144;
const BODILESS = new Set([204, 304]);

export interface BulkAnswer {
  upstream: ClientRequest;
  answer: IncomingMessage;
  response: ServerResponse;
  /** Called whenever bytes move. */
  moved: () => void;
  /** True where the connection broke, and it was not the reader of the answer who heard of it. */
  hasBroken: () => boolean;
}

/**
 * Passes the body of an answer on, past Node's parser where it is large: that one copies every 64 KiB into memory that is new to the kernel, which
 * costs four times what the rest of the way does. Says nothing where it breaks off but to the response, which breaks off, too.
 */
export function passBody(bulk: BulkAnswer): void {
  const { upstream, answer } = bulk;
  const length = isBulk(upstream, answer) ? Number(answer.headers["content-length"]) : undefined;
  // Within the call that told of the head, what was read with it is still to come.
  if (length !== undefined) process.nextTick(() => passBulk(bulk, length));
  else passPieces(bulk);
}

function isBulk(upstream: ClientRequest, { headers, statusCode }: IncomingMessage): boolean {
  const length = headers["content-length"];
  if (length === undefined || headers["transfer-encoding"] !== undefined) return false;
  return (
    upstream.method !== "HEAD" &&
    !BODILESS.has(statusCode!) &&
    /^\d{7,15}$/.test(length) &&
    Number(length) >= BULK_BYTES
  );
}

function passPieces({ answer, response, moved, hasBroken }: BulkAnswer): void {
  answer.on("error", () => response.destroy());
  answer.on("data", moved).pipe(response, { end: false });
  answer.once("end", () => {
    if (hasBroken() && endsWithConnection(answer)) response.destroy();
    else response.end();
  });
}

/** Says nothing of where it ends but that it has. */
const endsWithConnection = ({ headers, statusCode }: IncomingMessage) =>
  headers["content-length"] === undefined && headers["transfer-encoding"] === undefined && !BODILESS.has(statusCode!);

function passBulk(bulk: BulkAnswer, length: number): void {
  const { upstream, answer, response, moved } = bulk;
  // What is still being sent goes by the connection as Node has it.
  const fd = upstream.writableFinished && !response.destroyed ? secondOf(answer.socket) : undefined;
  if (fd === undefined) return passPieces(bulk);
  let left = length;
  for (let part: Buffer | null; (part = answer.read() as Buffer | null) !== null;) {
    left -= part.length;
    moved();
    response.write(part);
  }
  // From here on nobody else reads the connection: it is let go of before anything more can come.
  answer.on("error", () => {});
  upstream.destroy();
  const socket = readInto(Buffer.allocUnsafeSlow(BUFFER_BYTES), fd, (bytes) => {
    const part = bytes.subarray(0, left);
    left -= part.length;
    moved();
    response.write(part, () => (left === 0 ? finish() : socket.resume()));
    // No more until these are out of the buffer.
    return false;
  });
  const finish = () => {
    response.end();
    socket.destroy();
  };
  const broke = () => {
    if (left > 0) response.destroy();
  };
  socket.on("error", broke).on("end", broke).on("close", broke);
  response.once("close", () => socket.destroy());
  if (left === 0) finish();
}
