import type { Socket } from "node:net";
import { call, check, OPEN_FLAGS, result } from "./libc.ts";

const socket = call("int socket(int domain, int type, int protocol)");

export const AF_INET = 2;
export const AF_INET6 = 10;

/** Makes a socket in the network namespace of this thread, which never blocks; the caller's to close. Throws an error with `errno`. */
export const makeSocket = (family: number, type: number, protocol = 0): number =>
  check("socket", result(socket(family, type | OPEN_FLAGS, protocol)));

/** The descriptor of a connection, which Node keeps to itself; undefined of one that is closed, or is no socket of the kernel's. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  return fd !== undefined && fd >= 0 ? fd : undefined;
}
