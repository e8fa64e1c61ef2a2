import type { Socket } from "node:net";
import { reset, splice } from "../splice.ts";
import type { Judge } from "./judge.ts";

/** One connection out of a sandbox, as long as anything is left of it: what it said last may outlive its own end. */
export class Passage {
  readonly socket: Socket;
  /** Where it was to go. */
  readonly address: string;
  readonly port: number;
  readonly #onEnd: (passage: Passage) => void;
  readonly #ended = new AbortController();
  readonly #open = new Set<Socket>();
  #grounds: ((judge: Judge) => boolean) | undefined;

  /** `onEnd`: nothing of it is left. */
  constructor(socket: Socket, { address, port }: { address: string; port: number }, onEnd: (passage: Passage) => void) {
    this.socket = socket;
    this.address = address;
    this.port = port;
    this.#onEnd = onEnd;
    socket.once("close", () => this.#ended.abort());
    this.#hold(socket);
  }

  /** Aborted once the sandbox's side has ended: then nothing more is begun for it. */
  get signal(): AbortSignal {
    return this.#ended.signal;
  }

  /** Why it may go on, asked anew whenever the rules change. */
  allowBy(grounds: (judge: Judge) => boolean): void {
    this.#grounds = grounds;
  }

  /** Ends it where the rules forbid it; one that was not judged yet will be by these. */
  judgeBy(judge: Judge): void {
    if (this.#grounds?.(judge) === false) this.cut();
  }

  /** Passes bytes both ways between it and where it goes. */
  join(upstream: Socket): void {
    if (this.signal.aborted) return reset(upstream);
    this.#hold(upstream);
    splice(this.socket, upstream);
  }

  /** Ends it at once, as a reset. */
  cut(): void {
    for (const socket of this.#open) reset(socket);
    this.#ended.abort();
  }

  #hold(socket: Socket): void {
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#onEnd(this);
    });
  }
}
