import type { ByteTarget } from "../contract/byte-source.ts";
import { closeSocket, headOf, HEAD_END, openSocket, within } from "./plain-socket.ts";
import { sendPieces } from "./send-body.ts";

/** What is read at least at once: nobody looks at a file before its end. */
const PIECE_BYTES = 262_144;
/** How long a host may take nothing, or say nothing at the end: longer than it waits itself for the disk of a sandbox. */
const STALL_MS = 300_000;
const LAST_WORD_MS = 1_000;
/** Longer than any problem is. */
const MAX_ANSWER_BYTES = 65_536;

/**
 * `PUT`s a body of so many bytes to a host that is reached by plain HTTP, in a request that is written to a socket of its own. `fetch`
 * hands on the body of a request in pieces of 8 KiB, and waits for the isolate's lock with each: of a large one that is most of what it
 * costs. The answer is a whole one; its headers are not kept. Undefined, and the body untouched, where no socket can be had: the
 * platform opens none to its own addresses. Rejects when the body or the connection breaks off.
 */
export async function putOverSocket(
  { url, headers }: ByteTarget,
  body: ReadableStream<Uint8Array>,
  size: number,
  signal: AbortSignal,
): Promise<Response | undefined> {
  signal.throwIfAborted();
  const socket = await openSocket(url);
  if (!socket) return undefined;
  const close = () => closeSocket(socket);
  signal.addEventListener("abort", close);
  try {
    signal.throwIfAborted();
    // Of HTTP/1.0, so that the answer comes in one piece whatever stands between; kept alive, so that one that comes before the body's end
    // is not lost with the connection.
    const fields = { ...headers, "content-length": String(size), connection: "keep-alive" };
    const head = headOf("PUT", "1.0", { url, headers: fields });
    const answer = readAnswer(socket.readable);
    answer.catch(() => undefined);
    const answered = send(head, body, socket.writable).then(
      () => within(STALL_MS, answer),
      // It may be the host that takes no more, and has said why.
      (error: unknown) => within(LAST_WORD_MS, answer).catch(() => Promise.reject(error)),
    );
    return await Promise.race([answer, answered]);
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

async function send(head: Uint8Array, body: ReadableStream<Uint8Array>, to: WritableStream): Promise<void> {
  const writer = to.getWriter();
  await within(STALL_MS, writer.write(head));
  await sendPieces(body, (bytes) => within(STALL_MS, writer.write(bytes)), PIECE_BYTES);
}

/** What has a length, or no body at all. */
async function readAnswer(from: ReadableStream<Uint8Array>): Promise<Response> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const bytes of from) {
    text += decoder.decode(bytes, { stream: true });
    if (text.length > MAX_ANSWER_BYTES) break;
    const end = text.indexOf(HEAD_END);
    if (end < 0) continue;
    const head = text.slice(0, end);
    const content = text.slice(end + HEAD_END.length);
    const status = /^HTTP\/1\.[01] ([2-5]\d\d)/.exec(head)?.[1];
    const length = /^content-length: *(\d+)$/im.exec(head)?.[1] ?? "0";
    if (status === undefined) break;
    if (new TextEncoder().encode(content).length < Number(length)) continue;
    return new Response(content || null, { status: Number(status) });
  }
  throw new Error("the host gave no answer");
}
