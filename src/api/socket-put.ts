import { connect } from "cloudflare:sockets";
import type { ByteTarget } from "../contract/byte-source.ts";

/** What is read and sent at once. */
const PIECE_BYTES = 256 * 1024;
const OPEN_MS = 10_000;
/** How long a host may take nothing, or say nothing at the end: longer than it waits itself for the disk of a sandbox. */
const STALL_MS = 300_000;
const LAST_WORD_MS = 1_000;
/** Longer than any problem is. */
const MAX_ANSWER_BYTES = 65_536;
const HTTP_PORT = 80;
const HEAD_END = "\r\n\r\n";

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
  const { hostname, port, host, pathname, search } = new URL(url);
  let socket: Socket;
  try {
    // An address of IPv6 keeps its brackets: the runtime puts no more than the port behind it.
    socket = connect({ hostname, port: Number(port || HTTP_PORT) }, { secureTransport: "off", allowHalfOpen: true });
  } catch {
    return undefined;
  }
  const close = () => void socket.close().catch(() => undefined);
  try {
    await within(OPEN_MS, socket.opened);
  } catch {
    close();
    return undefined;
  }
  signal.addEventListener("abort", close);
  try {
    signal.throwIfAborted();
    const fields = new Headers({ ...headers, host, "content-length": String(size), connection: "keep-alive" });
    // Of HTTP/1.0, so that the answer comes in one piece whatever stands between; kept alive, so that one that comes before the body's end
    // is not lost with the connection.
    const lines = [`PUT ${pathname}${search} HTTP/1.0`, ...[...fields].map(([name, value]) => `${name}: ${value}`)];
    const head = new TextEncoder().encode(lines.join("\r\n") + HEAD_END);
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
  const reader = body.getReader({ mode: "byob" });
  for (let buffer = new ArrayBuffer(PIECE_BYTES); ;) {
    const { value, done } = await reader.readAtLeast(PIECE_BYTES, new Uint8Array(buffer));
    if (value && value.length > 0) await within(STALL_MS, writer.write(value));
    if (done) return;
    buffer = value.buffer;
  }
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

async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`nothing happened for ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
