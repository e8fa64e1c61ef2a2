import { waitUntil } from "cloudflare:workers";
import {
  BODY_HEADER,
  BODY_LENGTH_HEADER,
  BODY_PROTOCOL,
  type BodyTarget,
  type PortTarget,
} from "../contract/body-apart.ts";
import { sendChunks, sendPieces } from "./send-body.ts";
import { closeSocket, headOf, HEAD_END, openSocket, within } from "./plain-socket.ts";

/** Each of the two steps to a connection: the signature of the request is made already, and holds for half a minute. */
const STEP_MS = 5_000;
/** How long the answer may still take once the host takes no more of the body, and how long the rest of that is read. */
const LAST_WORD_MS = 5_000;
const MAX_HEAD_BYTES = 4096;

/** A request to a port with its body; `size` is undefined of one that does not say its length. */
export interface Sent {
  method: string;
  body: ReadableStream<Uint8Array>;
  size: number | undefined;
  signal: AbortSignal;
}

/**
 * Sends a request to a host that is reached by plain HTTP, its body on a connection of its own. `fetch` hands on the body of a request in
 * pieces of 8 KiB, and waits for the isolate's lock with each: of a large one that is most of what it costs. Undefined, and the body
 * untouched, where no such connection can be had. Rejects as `fetch` does.
 */
export async function fetchWithBodyApart(target: PortTarget, sent: Sent): Promise<Response | undefined> {
  const { method, size, signal } = sent;
  const socket = target.body && (await openBody(target.body));
  if (!target.body || !socket) return undefined;
  const headers = {
    ...target.headers,
    [BODY_HEADER]: target.body.id,
    ...(size !== undefined && { [BODY_LENGTH_HEADER]: String(size) }),
  };
  const broken = new AbortController();
  let hasAnswer = false;
  const ended = async (error: unknown) => {
    closeSocket(socket);
    // Of what breaks off nobody waits for the answer; of what is not taken the answer may say why.
    if (!(error instanceof NotTaken)) return broken.abort(error);
    await discard(sent.body);
    if (!hasAnswer) broken.abort(error);
  };
  // An answer may begin before the body has ended, and passes without us: the body goes on.
  waitUntil(send(sent, socket).catch(ended));
  try {
    const either = AbortSignal.any([signal, broken.signal]);
    const answer = await fetch(target.url, { method, headers, signal: either, redirect: "manual" });
    hasAnswer = true;
    return answer;
  } catch (error) {
    closeSocket(socket);
    throw error;
  }
}

/** A connection on which the host waits for the body; undefined where it does not. */
async function openBody({ url, headers }: BodyTarget): Promise<Socket | undefined> {
  const socket = await openSocket(url, STEP_MS);
  if (!socket) return undefined;
  try {
    const asking = { ...headers, connection: "Upgrade", upgrade: BODY_PROTOCOL };
    const writer = socket.writable.getWriter();
    await within(STEP_MS, writer.write(headOf("PUT", "1.1", { url, headers: asking })));
    writer.releaseLock();
    if (await within(STEP_MS, isAgreed(socket.readable))) return socket;
  } catch {
    // The host says why to the request that comes without.
  }
  closeSocket(socket);
  return undefined;
}

async function isAgreed(from: ReadableStream<Uint8Array>): Promise<boolean> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of from.values({ preventCancel: true })) {
    text += decoder.decode(bytes, { stream: true });
    if (text.includes(HEAD_END)) return text.startsWith("HTTP/1.1 101 ");
    if (text.length > MAX_HEAD_BYTES) break;
  }
  return false;
}

/** The host takes no more of a body. Why is for its answer to tell. */
class NotTaken extends Error {}

/** Sends the body as the app is to get it, however long that takes. What breaks off by itself rejects as it did, and ends without its end. */
async function send({ body, size }: Sent, socket: Socket): Promise<void> {
  const writer = socket.writable.getWriter();
  const write = async (bytes: Uint8Array) => {
    try {
      await writer.write(bytes);
    } catch (cause) {
      throw new NotTaken("the host takes no more", { cause });
    }
  };
  await (size === undefined ? sendChunks(body, write) : sendPieces(body, write));
  // All of it has been taken.
  await writer.close().catch(() => undefined);
  closeSocket(socket);
}

/** Waits a while and reads on meanwhile, without looking, so that a client still sending hears the answer before its connection ends. */
async function discard(body: ReadableStream<Uint8Array>): Promise<void> {
  const enough = new AbortController();
  const waited = new Promise<void>((wake) => setTimeout(wake, LAST_WORD_MS)).then(() => enough.abort());
  await body.pipeTo(new WritableStream(), { signal: enough.signal }).catch(() => undefined);
  await waited;
}
