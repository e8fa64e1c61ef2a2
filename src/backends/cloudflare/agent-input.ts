import { ProcessInput, type InputSink } from "../../process/process-input.ts";
import type { AgentConnection } from "./agent/connection.ts";
import { frame } from "./agent/frames.ts";

/**
 * The input of a process on its way through the agent: one piece at a time, so that what else is said on the connection never
 * waits behind it. A piece whose connection broke is sent again, but for what the agent has of it.
 */
export class AgentInput implements InputSink {
  #connection: AgentConnection | undefined;
  /** Bytes that the agent was sent in all. */
  #sent: number;
  readonly #onSent: () => void;
  #isClosed = false;
  #isEnded = false;
  #pending: { bytes: Uint8Array; from: number; done: (isTaken: boolean) => void } | undefined;

  /** `onSent` is called whenever some is on its way. */
  constructor(sent: number, onSent: () => void) {
    this.#sent = sent;
    this.#onSent = onSent;
  }

  /** The agent has `received` bytes of all. */
  connect(connection: AgentConnection, received: number): void {
    this.#connection = connection;
    const pending = this.#pending;
    if (pending) this.#send(pending.bytes.subarray(Math.max(0, received - pending.from)));
    if (this.#isEnded) connection.tell(frame("E"));
  }

  async write(bytes: Uint8Array): Promise<boolean> {
    if (this.#isClosed) return false;
    return new Promise((done) => {
      this.#pending = { bytes, from: this.#sent, done };
      this.#sent += bytes.length;
      this.#send(bytes);
    });
  }

  end(): void {
    this.#isEnded = true;
    this.#connection?.tell(frame("E"));
  }

  /** The process took so much in all; nothing more goes in where it is closed. */
  taken(offset: number, isOpen: boolean): void {
    const pending = this.#pending;
    if (pending && offset >= pending.from + pending.bytes.length) this.#settle(true);
    if (!isOpen) this.close();
  }

  /** Nobody reads any more. */
  close(): void {
    this.#isClosed = true;
    this.#settle(false);
  }

  #settle(isTaken: boolean): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.done(isTaken);
  }

  #send(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#connection?.tell(frame("I", bytes));
    this.#onSent();
  }
}

/** The input of a process that has ended, which took so much of it. */
export function closedInput(offset: number, ended: Promise<void>): ProcessInput {
  const sink: InputSink = { write: async () => false, end: () => undefined };
  return new ProcessInput({ sink, offset, isOpen: false, ended, note: () => undefined });
}
