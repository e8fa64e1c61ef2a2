import { closeSync, constants, fstatSync, openSync, writeSync } from "node:fs";
import { Writable } from "node:stream";
import { ReadStream } from "node:tty";
import type { TerminalSize } from "../../contract/process.ts";
import type { ProcessOutput } from "../runtime.ts";
import { ioctl } from "./libc.ts";

const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
const TIOCSWINSZ = 0x5414;
/** Device 5:2 is the one that makes terminals. */
const PTMX_DEVICE = (5 << 8) | 2;
const FIRST_RETRY_MS = 2;
const LAST_RETRY_MS = 100;
const END_OF_TRANSMISSION = "\x04";

/** The host's end of a terminal. When it is closed the kernel hangs up on what runs there. */
export interface Terminal {
  /** Its name inside, below the folder of terminals. */
  name: string;
  /** All that is shown on it. */
  output: ProcessOutput;
  /** Its end types an end of transmission. */
  input: Writable;
  resize(size: TerminalSize): void;
  close(): void;
}

/** Makes a terminal by a `ptmx`: that of a container, so that its programs find the terminal by its name. */
export function openTerminal(ptmx: string, size: TerminalSize): Terminal {
  const fd = openSync(ptmx, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK);
  const isMaker = fstatSync(fd).rdev === PTMX_DEVICE;
  const number = Buffer.alloc(4);
  const unlocked = isMaker && ioctl(fd, TIOCSPTLCK, Buffer.alloc(4)).errno === 0;
  if (!unlocked || ioctl(fd, TIOCGPTN, number).errno !== 0) {
    closeSync(fd);
    throw new Error(`${ptmx} makes no terminals.`);
  }
  setSize(fd, size);
  const socket = new ReadStream(fd);
  // The kernel's word for "nobody is there any more", and no error of ours.
  socket.on("error", () => socket.destroy());
  return {
    name: String(number.readUInt32LE()),
    output: { stream: () => socket },
    input: typed(fd, socket),
    resize: (size) => {
      // Not by its `close`: the descriptor is given back before that is told, and may be another's by then.
      if (!socket.destroyed) setSize(fd, size);
    },
    close: () => socket.destroy(),
  };
}

/** What is typed. Written by ourselves: Node's own stream of a terminal's end blocks this thread while nobody reads. */
function typed(fd: number, socket: ReadStream): Writable {
  const write = (bytes: Buffer, done: () => void, pauseMs = FIRST_RETRY_MS): void => {
    let written = 0;
    try {
      while (!socket.destroyed && written < bytes.length) written += writeSync(fd, bytes, written);
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
      socket.destroy();
      done(error);
    },
  });
}

function setSize(fd: number, { rows, cols }: TerminalSize): void {
  const window = Buffer.alloc(8);
  window.writeUInt16LE(rows, 0);
  window.writeUInt16LE(cols, 2);
  const { errno } = ioctl(fd, TIOCSWINSZ, window);
  if (errno !== 0) throw new Error(`The size of a terminal cannot be set: error ${errno}.`);
}
