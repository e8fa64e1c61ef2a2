import type { Socket } from "node:net";

const MAX_LINE_BYTES = 16;

/** The first line that comes from a socket; what follows it stays in the socket. */
export function readLine(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let line = "";
    const settle = (error?: Error) => {
      socket.off("readable", onReadable).off("error", settle).off("close", onClose);
      if (error === undefined) resolve(line);
      else reject(error);
    };
    const onClose = () => settle(new Error("The connection was closed."));
    const onReadable = () => {
      for (let byte = socket.read(1) as Buffer | null; byte !== null; byte = socket.read(1) as Buffer | null) {
        if (byte[0] === 10) return settle();
        line += byte.toString("latin1");
        if (line.length > MAX_LINE_BYTES) return settle(new Error("The line is too long."));
      }
    };
    socket.on("readable", onReadable).on("error", settle).on("close", onClose);
  });
}
