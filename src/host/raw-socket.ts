import { Socket } from "node:net";
import { duplicate } from "./linux/libc.ts";
import { descriptorOf } from "./linux/sockets.ts";

/** A descriptor of the same connection, for the caller to close; undefined of one that has none, such as one that is encrypted here. */
export function secondOf(socket: Socket): number | undefined {
  const fd = descriptorOf(socket);
  try {
    return fd === undefined ? undefined : duplicate(fd);
  } catch {
    return undefined;
  }
}

/**
 * Reads a connection into the same memory again and again, where Node takes memory for every 64 KiB that is new to the kernel. `take` gets what has
 * come, and says whether more may at once; where not, the bytes stay what they are until the socket is resumed.
 */
export function readInto(buffer: Buffer, fd: number, take: (part: Buffer) => boolean): Socket {
  const callback = (size: number) => take(buffer.subarray(0, size));
  return new Socket({ fd, allowHalfOpen: true, onread: { buffer, callback } });
}
