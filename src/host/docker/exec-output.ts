import { PassThrough, type Readable } from "node:stream";
import type { ProcessOutput, Spawned } from "../runtime.ts";
import { noInput } from "../launcher/input.ts";

/** A stream as what a process writes. */
export function outputOf(stream: Readable): ProcessOutput {
  return { stream: () => stream };
}

/** A process that is over: how it ended, and what it has to say. */
export function endedProcess(returncode: number, words: { stdout?: string; stderr?: string } = {}): Spawned {
  return {
    stdin: noInput(),
    stdout: outputOf(saying(words.stdout)),
    stderr: outputOf(saying(words.stderr)),
    exited: Promise.resolve(returncode),
    kill: async () => undefined,
    release: () => undefined,
  };
}

function saying(text: string | undefined): Readable {
  return new PassThrough().end(text);
}
