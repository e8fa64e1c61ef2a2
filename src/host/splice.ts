import type { Socket } from "node:net";
import type { Duplex } from "node:stream";

/**
 * Passes bytes both ways between two connections, as they come, no faster than they are taken. Each side may end its half by itself; what
 * breaks one breaks the other, by `breakOff`.
 */
export function splice(one: Duplex, other: Duplex, breakOff: (socket: Duplex) => void = reset): void {
  passOn(one, other, breakOff);
  passOn(other, one, breakOff);
}

function passOn(from: Duplex, to: Duplex, breakOff: (socket: Duplex) => void): void {
  const broke = () => breakOff(to);
  from.on("error", broke);
  from.once("close", () => {
    // What it said last may still be on its way to the other, unless it broke.
    if (!from.readableEnded) broke();
  });
  if (from.destroyed) return broke();
  from.pipe(to);
}

/** Closes a connection so that its other end learns that something went wrong. */
export function reset(socket: Duplex): void {
  if (socket.destroyed) return;
  socket.on("error", () => {});
  try {
    (socket as Socket).resetAndDestroy();
  } catch {
    // Only TCP itself has resets.
    socket.destroy();
  }
}
