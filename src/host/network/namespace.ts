import ipaddr from "ipaddr.js";
import { closeSync, openSync } from "node:fs";
import { isIPv6, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ApiError } from "../../contract/errors.ts";
import { call, check, looked, result } from "../linux/libc.ts";
import { AF_INET, AF_INET6, descriptorOf, makeSocket } from "../linux/sockets.ts";
import { connected } from "./connecting.ts";

/**
 * Sockets in the network namespace of a container, opened by this process: a socket stays in the namespace in which it was made, whoever
 * uses it. For Linux, as root.
 */
const calls = {
  setns: call("int setns(int fd, int type)"),
  bind: call("int bind(int fd, void *address, uint length)"),
  listen: call("int listen(int fd, int backlog)"),
  getsockname: call("int getsockname(int fd, _Out_ void *address, _Inout_ uint *length)"),
  getsockopt: call("int getsockopt(int fd, int level, int option, _Out_ void *value, _Inout_ uint *length)"),
  setsockopt: call("int setsockopt(int fd, int level, int option, void *value, uint length)"),
};

const CLONE_NEWNET = 0x4000_0000;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const IPPROTO_IP = 0;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SO_ORIGINAL_DST = 80;
const BACKLOG = 511;
/** `struct sockaddr_in` and `sockaddr_in6`. */
const IPV4_BYTES = 16;
const IPV6_BYTES = 28;
const IPV4_ADDRESS_AT = 4;
const IPV6_ADDRESS_AT = 8;
const DIAL_TIMEOUT_MS = 5_000;

/** The namespace of this thread, which it goes back to. */
let own: number | undefined;

/**
 * Does something in the namespace, at once: nothing else of this thread runs meanwhile. What is started or opened in there stays there.
 * There would be no going on in a wrong namespace: a process that cannot leave it ends.
 */
export function inNamespace<T>(fd: number, work: () => T): T {
  own ??= openSync("/proc/thread-self/ns/net", "r");
  check("setns", result(calls.setns(fd, CLONE_NEWNET)));
  try {
    return work();
  } finally {
    if (calls.setns(own, CLONE_NEWNET) !== 0) process.abort();
  }
}

/**
 * Opens the network namespace of a process. `isStill` says whether the process is still the one that is meant: asked once it is open, since
 * its number may be another's by now. Throws `sandbox_ended` where it is not.
 */
export function openNetworkOf(pid: number, isStill: () => boolean): number {
  let namespace: number;
  try {
    namespace = openSync(`/proc/${pid}/ns/net`, "r");
  } catch (error) {
    if (isStill()) throw error;
    throw new ApiError("sandbox_ended", { cause: error });
  }
  if (isStill()) return namespace;
  closeSync(namespace);
  throw new ApiError("sandbox_ended");
}

/** A TCP listener in the namespace, for `net.Server.listen({ fd })`; port 0: the kernel chooses. Throws an error with `errno`. */
export function listenTcp(namespace: number, address: string, port = 0): number {
  return opened(namespace, SOCK_STREAM, address, port, (fd) => {
    check("listen", result(calls.listen(fd, BACKLOG)));
  });
}

/** A UDP socket in the namespace, for `dgram.Socket.bind({ fd })`; port 0: the kernel chooses. Throws an error with `errno`. */
export function bindUdp(namespace: number, address: string, port = 0): number {
  return opened(namespace, SOCK_DGRAM, address, port, () => {});
}

/** The port to which a socket is bound. */
export function boundPort(fd: number): number {
  const address = Buffer.alloc(IPV6_BYTES);
  check(
    "getsockname",
    looked(() => calls.getsockname(fd, address, [address.length])),
  );
  return address.readUInt16BE(2);
}

/**
 * Where a connection that was redirected to a listener was to go. Of one that came by itself that is the listener; undefined where the
 * kernel does not know any more.
 */
export function originalDestination(socket: Socket): { address: string; port: number } | undefined {
  const fd = descriptorOf(socket);
  if (fd === undefined) return undefined;
  const level = socket.localFamily === "IPv6" ? IPPROTO_IPV6 : IPPROTO_IP;
  const found = Buffer.alloc(IPV6_BYTES);
  const { errno } = looked(() => calls.getsockopt(fd, level, SO_ORIGINAL_DST, found, [found.length]));
  return errno === 0 ? parseSocketAddress(found) : undefined;
}

/** Opens a TCP connection from within the namespace; rejects with ECONNREFUSED when nothing listens. */
export async function dialIn(namespace: number, port: number, address = "127.0.0.1"): Promise<Duplex> {
  const fd = inNamespace(namespace, () => makeSocketFor(address, SOCK_STREAM));
  return dialled(new Socket({ fd, allowHalfOpen: true }), port, address);
}

/** The same from where this process is. */
export function dialAcross(address: string, port: number): Promise<Duplex> {
  return dialled(new Socket({ allowHalfOpen: true }), port, address);
}

const dialled = (socket: Socket, port: number, address: string) =>
  connected(socket.connect(port, address), `${address}:${port}`, DIAL_TIMEOUT_MS);

function opened(namespace: number, type: number, address: string, port: number, then: (fd: number) => void): number {
  return inNamespace(namespace, () => {
    const fd = makeSocketFor(address, type);
    try {
      const socketAddress = formatSocketAddress(address, port);
      check(`bind ${address}`, result(calls.bind(fd, socketAddress, socketAddress.length)));
      then(fd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  });
}

function makeSocketFor(address: string, type: number): number {
  const family = isIPv6(address) ? AF_INET6 : AF_INET;
  const fd = makeSocket(family, type);
  if (family === AF_INET6) calls.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, Buffer.from([1, 0, 0, 0]), 4);
  return fd;
}

/** `struct sockaddr`: the family is in the machine's order of bytes, the port in the network's. */
function formatSocketAddress(address: string, port: number): Buffer {
  const parsed = ipaddr.parse(address);
  const isIpv6 = parsed.kind() === "ipv6";
  const bytes = Buffer.alloc(isIpv6 ? IPV6_BYTES : IPV4_BYTES);
  bytes.writeUInt16LE(isIpv6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(parsed.toByteArray(), isIpv6 ? IPV6_ADDRESS_AT : IPV4_ADDRESS_AT);
  return bytes;
}

function parseSocketAddress(bytes: Buffer): { address: string; port: number } {
  const [from, length] = bytes.readUInt16LE(0) === AF_INET6 ? [IPV6_ADDRESS_AT, 16] : [IPV4_ADDRESS_AT, 4];
  const address = ipaddr.fromByteArray([...bytes.subarray(from, from + length)]);
  return { address: address.toString(), port: bytes.readUInt16BE(2) };
}
