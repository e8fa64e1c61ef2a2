import type { TerminalSize } from "../../src/contract/process.ts";
import type { FakeProcess } from "./fake-process.ts";

const INTERRUPT = 3;
const END = 4;
const NEWLINE = 10;
const RETURN = 13;

/** The line discipline of a terminal, as far as the tests need it: echo, lines, Ctrl-C and Ctrl-D. */
export class FakeTerminal {
  size: TerminalSize;
  readonly #process: FakeProcess;
  #line: number[] = [];

  constructor(size: TerminalSize, process: FakeProcess) {
    this.size = size;
    this.#process = process;
  }

  /** What the terminal shows of written bytes. */
  written(bytes: Uint8Array): Uint8Array {
    return Uint8Array.from([...bytes].flatMap((byte) => (byte === NEWLINE ? [RETURN, NEWLINE] : [byte])));
  }

  /** The program gets whole lines; each character is shown as it comes. */
  typed(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (byte === INTERRUPT) this.#process.signal("SIGINT");
      else if (byte === END && this.#line.length === 0) this.#process.onInputEnd();
      else if (byte !== END) {
        this.#process.write("stdout", Uint8Array.of(byte));
        this.#line.push(byte);
      }
      if (byte === END || byte === NEWLINE) this.#deliver();
    }
  }

  #deliver(): void {
    const line = Uint8Array.from(this.#line);
    this.#line = [];
    if (line.length > 0) this.#process.onInput(line);
  }
}
