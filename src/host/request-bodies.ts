import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { ApiError } from "../contract/errors.ts";
import { bodyEnd } from "./body-end.ts";
import { BODY_PROTOCOL } from "../contract/body-apart.ts";
import { headOfAgreement } from "./http-head.ts";
import { readInto, secondOf } from "./raw-socket.ts";
import { Relay } from "./relay.ts";

/** How long a body waits for its request. */
const WAIT_MS = 15_000;
/** What is read at once. More than this is moved past us. */
const BUFFER_BYTES = 65_536;

const brokeOff = () => new ApiError("invalid_request", { detail: "The body broke off." });

export interface Passing {
  /** Of the body in bytes; undefined of one in chunks, which says itself where it ends. */
  length: number | undefined;
  /** Called whenever bytes move. */
  moved: () => void;
  /** Called with why, where the connection ends before the body does. */
  broke: (error: ApiError) => void;
  /** Called where the app takes no more: its answer tells why, but what ended its connection is not to be read there any more. */
  refused: () => void;
}

/** The body of a request as it comes on a connection of its own, framed by who sends it: nobody between looks into it. */
export class RequestBody {
  readonly #socket: Socket;
  /** What came before there was anybody to pass it to. */
  #held: Buffer | undefined;
  #pass: ((part: Buffer) => void) | undefined;

  /** Takes the descriptor of the connection. */
  constructor(fd: number) {
    this.#socket = readInto(Buffer.allocUnsafeSlow(BUFFER_BYTES), fd, (part) => {
      if (this.#pass) this.#pass(part);
      else this.#held = part;
      // No more until these are out of the buffer.
      return false;
    });
    const close = () => this.#socket.destroy();
    this.#socket.on("error", close).once("end", close);
    this.#socket.write(headOfAgreement(BODY_PROTOCOL));
  }

  /** Passes it on, no faster than it is taken. */
  passTo(app: Duplex, { length, moved, broke, refused }: Passing): void {
    const socket = this.#socket;
    const end = bodyEnd(length);
    let isTaken = true;
    const close = () => {
      isTaken = false;
      socket.destroy();
    };
    socket.once("close", () => {
      if (isTaken && !end.isWhole) broke(brokeOff());
    });
    app.once("close", close);
    if (app.destroyed) return close();
    if (socket.destroyed) return broke(brokeOff());
    const failed = () => {
      refused();
      close();
    };
    const relay = new Relay(socket, app, { end, moved, failed });
    this.#pass = (part) => relay.pass(part);
    if (this.#held) this.#pass(this.#held);
    this.#held = undefined;
  }

  onClose(closed: () => void): void {
    this.#socket.once("close", closed);
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Bodies that wait for their requests. */
export class RequestBodies {
  readonly #waiting = new Map<string, RequestBody>();

  /** Takes the connection, and lets its other end send. Throws for one that cannot be taken, which is left as it is. */
  take(key: string, socket: Duplex, head: Buffer): void {
    if (this.#waiting.has(key)) throw new ApiError("conflict", { detail: "This body is here already." });
    const isUntouched = head.length === 0 && socket.readableLength === 0;
    const fd = isUntouched ? secondOf(socket as Socket) : undefined;
    if (fd === undefined) {
      throw new ApiError("invalid_request", {
        detail: "The connection takes no body, or has more on it than its head.",
      });
    }
    // From here on nobody else reads it.
    socket.destroy();
    const body = new RequestBody(fd);
    this.#waiting.set(key, body);
    const limit = setTimeout(() => this.#waiting.get(key) === body && body.close(), WAIT_MS);
    body.onClose(() => {
      clearTimeout(limit);
      if (this.#waiting.get(key) === body) this.#waiting.delete(key);
    });
  }

  /** The body, which is the caller's now. Throws where there is none, or none any more. */
  claim(key: string): RequestBody {
    const body = this.#waiting.get(key);
    if (!body) throw brokeOff();
    this.#waiting.delete(key);
    return body;
  }

  close(): void {
    for (const body of this.#waiting.values()) body.close();
  }
}
