import { connect } from "cloudflare:sockets";
import type { ByteTarget } from "../contract/byte-source.ts";

const LARGE_BYTES = 1_048_576;
const OPEN_MS = 10_000;
const HTTP_PORT = 80;
export const HEAD_END = "\r\n\r\n";

/** Whether a body of so many bytes is worth a connection of its own to a host at that URL. */
export const isWorthSocket = (url: string, bytes: number) => url.startsWith("http:") && bytes >= LARGE_BYTES;

/** A connection to a host that is reached by plain HTTP; undefined where none can be had: the platform opens none to its own addresses. */
export async function openSocket(url: string, limitMs = OPEN_MS): Promise<Socket | undefined> {
  const { hostname, port } = new URL(url);
  let socket: Socket | undefined;
  try {
    // An address of IPv6 keeps its brackets: the runtime puts no more than the port behind it.
    socket = connect({ hostname, port: Number(port || HTTP_PORT) }, { secureTransport: "off", allowHalfOpen: true });
    await within(limitMs, socket.opened);
    return socket;
  } catch {
    if (socket) closeSocket(socket);
    return undefined;
  }
}

export const closeSocket = (socket: Socket) => void socket.close().catch(() => undefined);

/** The head of a request, as it is written to a connection. */
export function headOf(method: string, version: string, { url, headers }: ByteTarget): Uint8Array {
  const { host, pathname, search } = new URL(url);
  const fields = new Headers({ ...headers, host });
  const lines = [
    `${method} ${pathname}${search} HTTP/${version}`,
    ...[...fields].map(([name, value]) => `${name}: ${value}`),
  ];
  return new TextEncoder().encode(lines.join("\r\n") + HEAD_END);
}

/** What the promise gives, or an error when it takes longer. */
export async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
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
