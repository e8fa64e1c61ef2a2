import { writeSync } from "node:fs";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { BodyEnd } from "./body-end.ts";
import { KernelPipe } from "./linux/kernel-pipe.ts";
import { descriptorOf } from "./linux/sockets.ts";

/** What is moved at once, and how often before others have their turn. */
const PIPE_BYTES = 524_288;
const MOVES = 8;

export interface RelayOptions {
  /** Passed on to its end. What comes behind that is read, and dropped. */
  end: BodyEnd;
  /** Called whenever bytes move. */
  moved: () => void;
  /** Called where the other side takes no more, which nobody else may hear of. */
  failed: () => void;
}

/**
 * Passes a body on that comes on one connection to another, no faster than that takes it: what its owner has read and hands over (`pass`), and then, within
 * the kernel, what has come behind it. Where there is nothing more it resumes the connection, whose owner reads on.
 */
export class Relay {
  readonly #from: Socket;
  readonly #to: Duplex;
  readonly #options: RelayOptions;
  readonly #pipe: KernelPipe | undefined;
  readonly #rest = Buffer.allocUnsafeSlow(PIPE_BYTES);

  constructor(from: Socket, to: Duplex, options: RelayOptions) {
    this.#from = from;
    this.#to = to;
    this.#options = options;
    this.#pipe = pipeTo(to);
    from.once("close", () => this.#pipe?.close());
  }

  /** Takes bytes, which may not change until the connection is resumed. */
  pass(bytes: Buffer): void {
    const { end, moved } = this.#options;
    moved();
    const taken = end.look(bytes);
    if (taken === undefined) return void this.#from.destroy();
    // Resumed within its own call, the connection would stand still after that.
    if (this.#put(bytes.subarray(0, taken))) process.nextTick(() => this.#moveOn());
  }

  /**
   * True where all of it is taken at once; else it goes on by itself, or has failed. What is taken at once is written beside Node, which of a connection that
   * takes no more would read no more either, and so not the answer that says why.
   */
  #put(bytes: Buffer): boolean {
    const to = this.#to.writableLength === 0 ? descriptorOf(this.#to as Socket) : undefined;
    let rest = bytes;
    try {
      if (to !== undefined) rest = bytes.subarray(writeSync(to, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return this.#fail();
    }
    if (rest.length === 0) return true;
    this.#to.write(rest, (error) => {
      if (error) this.#fail();
      else this.#moveOn();
    });
    return false;
  }

  #fail(): false {
    this.#options.failed();
    return false;
  }

  #moveOn(): void {
    const { end, moved } = this.#options;
    const pipe = this.#pipe;
    for (let moves = 0; pipe; moves++) {
      // Asked each time: the numbers of closed ones are soon those of others.
      const [from, to] = [descriptorOf(this.#from), descriptorOf(this.#to as Socket)];
      if (this.#from.destroyed || from === undefined || to === undefined) return;
      if (end.left === 0) break;
      if (moves === MOVES) return void setImmediate(() => this.#moveOn());
      if (!pipe.letIn(from, Math.min(end.left, PIPE_BYTES))) break;
      end.skip(pipe.held);
      moved();
      pipe.letOut(to);
      // A write tells more of what is the matter than the way within the kernel.
      if (pipe.held > 0 && !this.#put(pipe.drain(this.#rest))) return;
    }
    this.#from.resume();
  }
}

/** Undefined where the bytes have to come by us: what is not a connection of the kernel's, and on a machine that has no such pipes. */
function pipeTo(to: Duplex): KernelPipe | undefined {
  if (descriptorOf(to as Socket) === undefined) return undefined;
  try {
    return new KernelPipe(PIPE_BYTES);
  } catch {
    return undefined;
  }
}
