import type { AttachmentSocket } from "../../process/attachment-socket.ts";

/** The far end of a pair whose near end the object has: it leads from the process to the client's socket, in memory. */
export function inObjectSocket(socket: WebSocket): AttachmentSocket {
  socket.binaryType = "arraybuffer";
  socket.accept();
  return {
    async send(message) {
      if (socket.readyState === WebSocket.OPEN) socket.send(message);
    },
    close: () => socket.close(1000),
    terminate: () => socket.close(1011, "cut"),
    onMessage(listener) {
      socket.addEventListener("message", ({ data }) => {
        listener(typeof data === "string" ? data : new Uint8Array(data as ArrayBuffer));
      });
    },
    onClose: (listener) => socket.addEventListener("close", () => listener()),
  };
}
