import type { WebSocket } from "ws";
import type { AttachmentSocket } from "../process/attachment-socket.ts";

/** A socket that this host has opened to a sandbox's object. */
export function attachmentSocket(socket: WebSocket): AttachmentSocket {
  return {
    send: (message) => new Promise((resolve) => socket.send(message, () => resolve())),
    close: () => socket.close(1000),
    terminate: () => socket.terminate(),
    onMessage: (listener) =>
      socket.on("message", (data, isBinary) => {
        const message = data as Buffer;
        listener(isBinary ? message : message.toString());
      }),
    onClose: (listener) => socket.once("close", listener),
  };
}
