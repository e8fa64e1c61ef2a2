import type { ByteRange } from "../../../contract/byte-range.ts";
import type { FileContent, WriteOptions } from "../../backend.ts";
import { EndMarkerCheck } from "../../../contract/end-marker.ts";
import { ApiError, FILE_CODES } from "../../../contract/errors.ts";
import { closeByteStream } from "../byte-stream.ts";
import { AgentConnection, type AgentAddress, unreachable, withTimeLimit } from "./connection.ts";
import { CHUNK_BYTES, frame, list, nonsense, numberAt } from "./frames.ts";

const READ_CODES = [...FILE_CODES, "range_not_satisfiable"] as const;
/** How long putting a file in place may take: where it cannot be renamed there, it is copied. */
const PLACE_MS = 120_000;

/** `done` is called once, when the last byte has gone or nobody wants it any more. */
export async function readFile(
  agent: AgentAddress,
  path: string,
  range: ByteRange | undefined,
  done: () => void,
): Promise<FileContent> {
  const connection = await AgentConnection.open(agent, "R", list(path, ...rangeOf(range)));
  try {
    const { payload } = await connection.answer("m", READ_CODES);
    const { size, range: part } = measuresOf(payload, range !== undefined);
    const length = part ? part.last - part.first + 1 : size;
    return { body: contentOf(connection, length, done), size, range: part };
  } catch (error) {
    connection.close();
    throw error;
  }
}

/** Writes the whole file or, when the body breaks off or is not what it was said to be, leaves it as it was. */
export async function writeFile(
  agent: AgentAddress,
  path: string,
  body: ReadableStream<Uint8Array>,
  { size, endMarker, mode }: WriteOptions,
): Promise<void> {
  const connection = await AgentConnection.open(agent, "W", list(path, mode ?? ""));
  try {
    await connection.answer("k", FILE_CODES);
    const check = endMarker === undefined ? undefined : new EndMarkerCheck(endMarker);
    // An agent that speaks early has failed: the rest of the body is not waited for. How long all of it takes is the body's.
    const answer = connection.answerAtLast("z", FILE_CODES);
    const failed = answer.then(() => Promise.reject(nonsense()));
    failed.catch(() => undefined);
    const received = await Promise.race([pour(body, connection, check), failed]);
    if (check && !check.isWhole) throw new ApiError("invalid_request", { detail: "The body broke off." });
    if (size !== undefined && received !== size) {
      throw new ApiError("invalid_request", { detail: `The body has ${received} bytes, not ${size}.` });
    }
    await connection.send(frame("z"));
    await withTimeLimit(answer, PLACE_MS);
  } finally {
    connection.close();
  }
}

/** What the agent says of a file: its size unless it does not tell, and the part of it that comes where one was asked for. */
function measuresOf(payload: Uint8Array, isPart: boolean): Pick<FileContent, "size" | "range"> {
  const kind = payload[0];
  if (kind === 0) return { size: undefined, range: undefined };
  const [size, first, last] = [numberAt(payload, 1), numberAt(payload, 9), numberAt(payload, 17)];
  if (kind === 1 && !isPart) return { size, range: undefined };
  if (kind !== 2 || !isPart || first > last || last >= size) throw nonsense();
  return { size, range: { first, last } };
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

/** The content as it comes. One that ends before its length is an error, so that nobody takes it for the whole. */
function contentOf(
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

function rangeOf(range: ByteRange | undefined): [string, string, string] {
  if (!range) return ["", "", ""];
  if ("suffix" in range) return ["", "", String(range.suffix)];
  return [String(range.first), range.last === undefined ? "" : String(range.last), ""];
}
