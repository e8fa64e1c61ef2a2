import type { Socket } from "node:net";
import { domainOf } from "./host-name.ts";
import { readHello } from "./tls-hello.ts";

/** What a connection begins with. */
export type Opening =
  /** TLS, for a valid domain. */
  | { kind: "tls"; name: string }
  /** Requests of HTTP/1. */
  | { kind: "http" }
  /** Something else, or nothing within the time, or more than the limit before it is known. */
  | { kind: "other" };

const MAX_BYTES = 16_384;
const MAX_METHOD = 32;
const OTHER: Opening = { kind: "other" };

/**
 * Looks at the first bytes of a paused socket; they are all there to be read again, and it is paused, once it is known. One that ends before
 * that is reset.
 */
export function sniff(socket: Socket, limitMs: number): Promise<Opening> {
  return new Promise((resolve) => {
    let seen: Buffer = Buffer.alloc(0);
    const settle = (opening: Opening) => {
      clearTimeout(timer);
      socket.off("readable", read).off("end", ended).off("close", closed);
      socket.pause();
      // At once: a stream whose end somebody was told of takes nothing back.
      if (seen.length > 0 && !socket.destroyed) socket.unshift(seen);
      resolve(opening);
    };
    const read = () => {
      for (let chunk: Buffer | null; (chunk = socket.read() as Buffer | null) !== null;) {
        seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
        const opening = openingOf(seen) ?? (seen.length > MAX_BYTES ? OTHER : undefined);
        if (opening) return settle(opening);
      }
    };
    const ended = () => {
      socket.resetAndDestroy();
      closed();
    };
    const closed = () => settle(OTHER);
    const timer = setTimeout(closed, limitMs);
    if (socket.destroyed) return closed();
    socket.on("readable", read).once("end", ended).once("close", closed);
  });
}

/** Undefined while more bytes may tell. */
export function openingOf(bytes: Buffer): Opening | undefined {
  const hello = readHello(bytes);
  if (typeof hello === "object") {
    const name = domainOf(hello.name);
    return name === undefined ? OTHER : { kind: "tls", name };
  }
  if (hello === "partial") return undefined;
  return httpOpening(bytes);
}

/** A method of capital letters, and a target after it. The preface of HTTP/2, whose method is `PRI`, is none. */
function httpOpening(bytes: Buffer): Opening | undefined {
  const start = bytes.toString("latin1", 0, MAX_METHOD + 2);
  const match = /^(?:\r?\n)?([A-Z]+(?:-[A-Z]+)*)(?: ([\x21-\x7e])?)?/.exec(start);
  if (!match) return start.length <= 1 && /^\r?$/.test(start) ? undefined : OTHER;
  const [whole, method, target] = match;
  if (target !== undefined) return method === "PRI" ? OTHER : { kind: "http" };
  return whole.length === start.length && method!.length <= MAX_METHOD ? undefined : OTHER;
}
