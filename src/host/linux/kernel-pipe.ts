import { closeSync, readSync } from "node:fs";
import { call, check, growPipe, OPEN_FLAGS, result, spliceOn } from "./libc.ts";

const pipe2 = call("int pipe2(_Out_ int *fds, int flags)");

/** A pipe, through which bytes go from one connection to another without coming out of the kernel. */
export class KernelPipe {
  readonly #out: number;
  readonly #in: number;
  #held = 0;
  #isClosed = false;

  /** Throws where there is none to be had. It holds up to so many bytes, or what the machine allows. */
  constructor(bytes: number) {
    const ends: [number, number] = [-1, -1];
    check("pipe2", result(pipe2(ends, OPEN_FLAGS)));
    [this.#out, this.#in] = ends;
    growPipe(this.#in, bytes);
  }

  /** Bytes that went in and have not come out. */
  get held(): number {
    return this.#held;
  }

  /** Lets in what is there to read, at most so much. False where that is nothing now, or nothing ever, which a read tells. */
  letIn(from: number, limit: number): boolean {
    const { value } = spliceOn(from, this.#in, limit);
    this.#held += Math.max(0, value);
    return value > 0;
  }

  /** Lets out what is taken at once. */
  letOut(to: number): void {
    while (this.#held > 0) {
      const { value } = spliceOn(this.#out, to, this.#held);
      if (value <= 0) return;
      this.#held -= value;
    }
  }

  /** What has not come out, for which the memory must be large enough. */
  drain(into: Buffer): Buffer {
    const part = into.subarray(0, readSync(this.#out, into, 0, this.#held, null));
    this.#held -= part.length;
    return part;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeSync(this.#out);
    closeSync(this.#in);
  }
}
