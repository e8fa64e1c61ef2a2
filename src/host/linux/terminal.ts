import { closeSync, constants, fstatSync, openSync } from "node:fs";
import type { Writable } from "node:stream";
import { ReadStream } from "node:tty";
import type { TerminalSize } from "../../contract/process.ts";
import { inputOf } from "../launcher/input.ts";
import type { ProcessOutput } from "../runtime.ts";
import { ioctl } from "./libc.ts";

const TIOCGPTN = 0x80045430;
const TIOCSPTLCK = 0x40045431;
const TIOCSWINSZ = 0x5414;
/** Device 5:2 is the one that makes terminals. */
const PTMX_DEVICE = (5 << 8) | 2;
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
  let isClosed = false;
  socket.once("close", () => (isClosed = true));
  // The kernel's word for "nobody is there any more", and no error of ours.
  socket.on("error", () => socket.destroy());
  return {
    name: String(number.readUInt32LE()),
    output: { stream: () => socket },
    input: inputOf(socket, () => socket.write(END_OF_TRANSMISSION)),
    resize: (size) => {
      if (!isClosed) setSize(fd, size);
    },
    close: () => socket.destroy(),
  };
}

function setSize(fd: number, { rows, cols }: TerminalSize): void {
  const window = Buffer.alloc(8);
  window.writeUInt16LE(rows, 0);
  window.writeUInt16LE(cols, 2);
  const { errno } = ioctl(fd, TIOCSWINSZ, window);
  if (errno !== 0) throw new Error(`The size of a terminal cannot be set: error ${errno}.`);
}
