import { CLOSE, HostCloseSchema } from "../contract/attach.ts";
import { close, isSayable, sendTo, type Sockets } from "./sockets.ts";

const encoder = new TextEncoder();

/** Passes messages between the two sockets of an attachment. It looks its way up at each message, so that it can sleep between. */
export class Bridge {
  readonly #sockets: Sockets;

  constructor(sockets: Sockets) {
    this.#sockets = sockets;
  }

  /** From the client: the framing as it is; a text message is the same in UTF-8. */
  fromClient(socket: WebSocket, message: ArrayBuffer | string): void {
    const host = this.#sockets.find(this.#sockets.attachmentOf(socket), "host");
    if (!host) return close(socket, CLOSE.hostAway, "resume");
    sendTo(host, typeof message === "string" ? encoder.encode(message) : message);
  }

  /** From the host: output for the client as it is; text tells to close. */
  fromHost(socket: WebSocket, message: ArrayBuffer | string): void {
    const client = this.#sockets.find(this.#sockets.attachmentOf(socket), "client");
    if (typeof message !== "string") return sendTo(client, message);
    const order = HostCloseSchema.safeParse(parse(message));
    if (!order.success) return;
    const { code, reason } = order.data.close;
    close(client, isSayable(code) ? code : CLOSE.hostAway, reason.slice(0, MAX_REASON_CHARACTERS));
    close(socket, CLOSE.done, "done");
  }

  /** A socket has gone: the other end of the attachment goes, too. */
  gone(socket: WebSocket): void {
    const attachmentId = this.#sockets.attachmentOf(socket);
    if (this.#sockets.stateOf(socket).role === "host") {
      close(this.#sockets.find(attachmentId, "client"), CLOSE.hostAway, "resume");
    } else {
      close(this.#sockets.find(attachmentId, "host"), CLOSE.done, "the client has gone");
    }
  }
}

/** A reason is at most 123 bytes long. */
const MAX_REASON_CHARACTERS = 40;

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
