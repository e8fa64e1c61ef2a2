import type { BodyLength } from "../../backend.ts";
import { EndMarkerCheck } from "../../../contract/end-marker.ts";
import { ApiError, type ErrorCode } from "../../../contract/errors.ts";
import { closeByteStream } from "../byte-stream.ts";
import { unreachable, withTimeLimit, type AgentConnection } from "./connection.ts";
import { CHUNK_BYTES, frame, nonsense } from "./frames.ts";

/** How a body is taken in: what it may be refused for, and how long what is done with it may take once it is there. */
interface Intake extends BodyLength {
  codes: readonly ErrorCode[];
  doneMs: number;
}

/** Has the agent take in the body, once it says that it will. A body that breaks off, or is not what it was said to be, is never ended. */
export async function sendBody(
  connection: AgentConnection,
  body: ReadableStream<Uint8Array>,
  { size, endMarker, codes, doneMs }: Intake,
): Promise<void> {
  await connection.answer("k", codes);
  const check = endMarker === undefined ? undefined : new EndMarkerCheck(endMarker);
  // An agent that speaks early has failed: the rest of the body is not waited for. How long all of it takes is the body's.
  const answer = connection.answerAtLast("z", codes);
  const failed = answer.then(() => Promise.reject(nonsense()));
  failed.catch(() => undefined);
  const received = await Promise.race([pour(body, connection, check), failed]);
  if (check && !check.isWhole) throw new ApiError("invalid_request", { detail: "The body broke off." });
  if (size !== undefined && received !== size) {
    throw new ApiError("invalid_request", { detail: `The body has ${received} bytes, not ${size}.` });
  }
  await connection.send(frame("z"));
  await withTimeLimit(answer, doneMs);
}

/** Sends the body on; the answer is how much it was. */
async function pour(
  body: ReadableStream<Uint8Array>,
  connection: AgentConnection,
  check: EndMarkerCheck | undefined,
): Promise<number> {
  let received = 0;
  for await (const chunk of body) {
    for (const part of check ? check.push(chunk) : [chunk]) {
      received += part.length;
      for (let at = 0; at < part.length; at += CHUNK_BYTES) {
        await connection.send(frame("d", part.subarray(at, at + CHUNK_BYTES)));
      }
    }
  }
  return received;
}

/**
 * The content as it comes; `done` is called once, when the last byte has gone or nobody wants it any more. One that ends before
 * its length is an error, so that nobody takes it for the whole.
 */
export function contentOf(
  connection: AgentConnection,
  length: number | undefined,
  done: () => void,
): ReadableStream<Uint8Array> {
  let left = length ?? Infinity;
  const finish = () => {
    connection.close();
    done();
  };
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      for (;;) {
        const next = await connection.next();
        if (next?.type === "d" && next.payload.length > 0 && next.payload.length <= left) {
          left -= next.payload.length;
          return controller.enqueue(next.payload.slice());
        }
        if (next?.type === "d" && next.payload.length === 0) continue;
        finish();
        const isWhole = next?.type === "z" && (left === 0 || length === undefined);
        if (!isWhole) return controller.error(next ? nonsense() : unreachable());
        return closeByteStream(controller);
      }
    },
    cancel: finish,
  });
}
