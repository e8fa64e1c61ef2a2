import { closeSync, constants, openSync, writeSync } from "node:fs";
import { Socket } from "node:net";
import type { Readable } from "node:stream";
import { growPipe } from "../linux/libc.ts";
import type { ProcessOutput } from "../runtime.ts";

const NONBLOCK = constants.O_NONBLOCK;
/** What a pipe holds that bytes pass in bulk: both of its sides are at work at once then, and seldom wake each other. */
const GROWN_PIPE_BYTES = 1024 * 1024;

/** A descriptor that is closed at most once. */
export class Descriptor {
  #fd: number | undefined;
  constructor(path: string, flags: number) {
    this.#fd = openSync(path, flags | NONBLOCK);
  }
  /** Leaves it to the caller. Throws when it is closed, or was left before. */
  detach(): number {
    const fd = this.#fd;
    if (fd === undefined) throw new Error("The descriptor is no longer open.");
    this.#fd = undefined;
    return fd;
  }
  /** Lets the pipe hold more, where the machine allows it. */
  grow(): void {
    if (this.#fd !== undefined) growPipe(this.#fd, GROWN_PIPE_BYTES);
  }
  /** A word for the other side. One that is full of what nobody read takes no more. */
  write(text: string): void {
    try {
      if (this.#fd !== undefined) writeSync(this.#fd, text);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/**
 * The host's reading end of a FIFO. Until `keepAlive`, a writer of our own, is closed there is no end of file, so that a
 * reader may come before the first real writer.
 */
export class FifoReader implements ProcessOutput {
  readonly #reader: Descriptor;
  readonly #keepAlive: Descriptor;

  constructor(path: string) {
    this.#reader = new Descriptor(path, constants.O_RDONLY);
    try {
      this.#keepAlive = new Descriptor(path, constants.O_WRONLY);
    } catch (error) {
      this.#reader.close();
      throw error;
    }
  }

  /** The real writer is there. */
  closeKeepAlive(): void {
    this.#keepAlive.close();
  }

  /** Lets it hold more; to be called before the real writer is there. */
  grow(): void {
    this.#keepAlive.grow();
  }

  descriptor(): number {
    return this.#reader.detach();
  }

  stream(): Readable {
    return new Socket({ fd: this.#reader.detach(), readable: true, writable: false });
  }

  /** Lets go of what nobody took. */
  close(): void {
    this.#reader.close();
    this.#keepAlive.close();
  }
}

/** The host's writing end. `keepAlive` holds what is written until the first real reader has come. */
export class FifoWriter {
  readonly socket: Socket;
  readonly #keepAlive: Descriptor;

  constructor(path: string) {
    this.#keepAlive = new Descriptor(path, constants.O_RDWR);
    try {
      const writer = new Descriptor(path, constants.O_WRONLY);
      this.socket = new Socket({ fd: writer.detach(), readable: false, writable: true });
    } catch (error) {
      this.#keepAlive.close();
      throw error;
    }
    this.socket.on("error", () => {});
  }

  closeKeepAlive(): void {
    this.#keepAlive.close();
  }

  /** Lets it hold more; to be called before the real reader is there. */
  grow(): void {
    this.#keepAlive.grow();
  }

  close(): void {
    this.socket.destroy();
    this.#keepAlive.close();
  }
}
