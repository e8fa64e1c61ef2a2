import { execFile } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { promisify } from "node:util";

const NONBLOCK = constants.O_NONBLOCK;
const run = promisify(execFile);

/** Makes FIFOs that every user of the sandbox may open; Node has no call for it. */
export async function makeFifos(paths: string[]): Promise<void> {
  await run("mkfifo", ["-m", "666", ...paths]);
}

/** One end of a FIFO, open. */
export interface OpenFifo {
  socket: Socket;
  keepAlive: Descriptor;
}

/** A descriptor that is closed at most once. */
export class Descriptor {
  #fd: number | undefined;
  constructor(path: string, flags: number) {
    this.#fd = openSync(path, flags | NONBLOCK);
  }
  /** Leaves it to the caller. */
  detach(): number {
    const fd = this.#fd!;
    this.#fd = undefined;
    return fd;
  }
  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/**
 * The host's reading end of a FIFO. `keepAlive` is a writer of our own: until it is closed there is no end of
 * file, so that a reader may come before the first real writer.
 */
export function openReader(path: string): OpenFifo {
  const reader = new Descriptor(path, constants.O_RDONLY);
  try {
    const keepAlive = new Descriptor(path, constants.O_WRONLY);
    return { socket: new Socket({ fd: reader.detach(), readable: true, writable: false }), keepAlive };
  } catch (error) {
    reader.close();
    throw error;
  }
}

/** The host's writing end. `keepAlive` holds what is written until the first real reader has come. */
export function openWriter(path: string): OpenFifo {
  const keepAlive = new Descriptor(path, constants.O_RDWR);
  try {
    const writer = new Descriptor(path, constants.O_WRONLY);
    return { socket: new Socket({ fd: writer.detach(), readable: false, writable: true }), keepAlive };
  } catch (error) {
    keepAlive.close();
    throw error;
  }
}
