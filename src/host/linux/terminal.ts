import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { PassThrough, Writable } from "node:stream";
import { ReadStream } from "node:tty";
import type { TerminalSize } from "../../contract/process.ts";
import type { ProcessOutput } from "../runtime.ts";
import { duplicate, ioctl } from "./libc.ts";

const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
const TIOCSWINSZ = 0x5414;
/** Device 5:2 is the one that makes terminals. */
const PTMX_DEVICE = (5 << 8) | 2;
const FIRST_RETRY_MS = 2;
const LAST_RETRY_MS = 100;
/** A terminal that nobody has open is looked at so seldom at last: a sandbox may have many of them. */
const LAST_REOPEN_MS = 1_000;

/** A default for programs that look for one, where a terminal is asked for. */
export const TERM = "xterm-256color";
/** What is typed at the end of the input. */
export const END_OF_TRANSMISSION = "\x04";

/** The host's end of a terminal. When it is closed the kernel hangs up on what runs there. */
export interface Terminal {
  /** Its name inside, below the folder of terminals. */
  name: string;
  /** All that is shown on it. */
  output: ProcessOutput;
  /** Its end types an end of transmission; `destroy` closes the terminal. */
  input: Writable;
  resize(size: TerminalSize): void;
  /** What it was made for has ended: so does the output, once nobody else has the terminal open. */
  finish(): void;
  close(): void;
}

/** Makes a terminal by a `ptmx`: that of a container, so that its programs find the terminal by its name. */
export function openTerminal(ptmx: string, size: TerminalSize): Terminal {
  const fd = openSync(ptmx, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  try {
    const isMaker = fstatSync(fd).rdev === PTMX_DEVICE;
    const number = Buffer.alloc(4);
    const unlocked = isMaker && ioctl(fd, TIOCSPTLCK, Buffer.alloc(4)).errno === 0;
    if (!unlocked || ioctl(fd, TIOCGPTN, number).errno !== 0) throw new Error(`${ptmx} makes no terminals.`);
    setSize(fd, size);
    return new HostTerminal(fd, String(number.readUInt32LE()));
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/**
 * Reads by a second descriptor. The kernel says EIO to a reader while nobody has the terminal open, and Node closes what says
 * so; but a program may close its streams a while before it ends, and must not be hung up on for that.
 */
class HostTerminal implements Terminal {
  readonly name: string;
  readonly output: ProcessOutput;
  readonly input: Writable;
  readonly #shown = new PassThrough();
  #fd: number | undefined;
  #reader: ReadStream;
  #retry: NodeJS.Timeout | undefined;
  #pauseMs = FIRST_RETRY_MS;
  #isFinished = false;

  constructor(fd: number, name: string) {
    this.name = name;
    this.#reader = this.#read(fd);
    this.#fd = fd;
    this.output = { stream: () => this.#shown };
    this.input = this.#typed();
  }

  resize(size: TerminalSize): void {
    if (this.#fd !== undefined) setSize(this.#fd, size);
  }

  finish(): void {
    this.#isFinished = true;
    // What was shown since the last look is read before the end.
    if (this.#retry) this.#readAgain();
  }

  close(): void {
    if (this.#fd === undefined) return;
    clearTimeout(this.#retry);
    this.#reader.destroy();
    closeSync(this.#fd);
    this.#fd = undefined;
    this.#shown.end();
  }

  #read(fd: number): ReadStream {
    const reader = new ReadStream(duplicate(fd));
    reader.on("data", () => (this.#pauseMs = FIRST_RETRY_MS));
    // EIO: nobody has the terminal open.
    reader.on("error", () => {});
    reader.once("close", () => {
      if (this.#isFinished) this.close();
      else if (this.#fd !== undefined) this.#retryLater();
    });
    reader.pipe(this.#shown, { end: false });
    return reader;
  }

  #retryLater(): void {
    this.#retry = setTimeout(() => this.#readAgain(), this.#pauseMs);
    this.#pauseMs = Math.min(2 * this.#pauseMs, LAST_REOPEN_MS);
  }

  #readAgain(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    if (this.#fd === undefined) return;
    try {
      this.#reader = this.#read(this.#fd);
    } catch {
      // This machine is out of descriptors.
      this.#retryLater();
    }
  }

  /** What is typed. Written by ourselves: Node's own stream of a terminal's end blocks this thread while nobody reads. */
  #typed(): Writable {
    const write = (bytes: Buffer, done: () => void, pauseMs = FIRST_RETRY_MS): void => {
      let written = 0;
      try {
        while (this.#fd !== undefined && written < bytes.length) written += writeSync(this.#fd, bytes, written);
        return done();
      } catch (error) {
        // Whoever hung up reads no more.
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return done();
      }
      setTimeout(() => write(bytes.subarray(written), done, Math.min(2 * pauseMs, LAST_RETRY_MS)), pauseMs);
    };
    return new Writable({
      // The end of what is typed is not the end of the terminal.
      autoDestroy: false,
      write: (chunk: Buffer, _encoding, done) => write(chunk, done),
      final: (done) => write(Buffer.from(END_OF_TRANSMISSION), done),
      destroy: (error, done) => {
        this.close();
        done(error);
      },
    });
  }
}

function setSize(fd: number, { rows, cols }: TerminalSize): void {
  const window = Buffer.alloc(8);
  window.writeUInt16LE(rows, 0);
  window.writeUInt16LE(cols, 2);
  const { errno } = ioctl(fd, TIOCSWINSZ, window);
  if (errno !== 0) throw new Error(`The size of a terminal cannot be set: error ${errno}.`);
}
