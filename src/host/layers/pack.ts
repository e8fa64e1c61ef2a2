import { Readable } from "node:stream";
import { isRoot } from "../linux/programs.ts";
import type { Marks } from "./overlay-marks.ts";
import { startScript } from "./script.ts";
import type { WriteLayerArgument } from "./write-layer.ts";

/** An upper directory with something in it that no layer can express; the message, a sentence, may be shown. */
export class Unpackable extends Error {
  override readonly name = "Unpackable";
}

export interface PackOptions {
  /** Leaves the holes of files out, in GNU's format 1.0. Not for Docker, which cannot read it. */
  sparse: boolean;
  /** By which attributes the overlay marks things; those of this process's own mounts unless told. */
  marks?: Marks;
}

/**
 * The upper directories of an overlay as an image layer: a plain tar archive. `prefix` is where a tree lies in the
 * image, "" for its root. Nothing may write to the trees meanwhile. The stream fails, and does not just end, where the
 * layer is not whole: with Unpackable, or with Error where the machine is to blame.
 */
export function packLayer(trees: { directory: string; prefix: string }[], options: PackOptions): Readable {
  const { sparse, marks = isRoot ? "trusted" : "user" } = options;
  const argument: WriteLayerArgument = { trees, sparse, marks };
  return Readable.from(outputOf(argument), { objectMode: false });
}

async function* outputOf(argument: WriteLayerArgument): AsyncGenerator<Buffer> {
  const { child, ended } = startScript("write-layer", argument, (reason) => new Unpackable(reason));
  try {
    yield* child.stdout! as AsyncIterable<Buffer>;
    await ended;
  } finally {
    child.kill("SIGKILL");
  }
}

/**
 * Whether anything in an upper directory has attributes or access lists besides `security.capability` and the
 * overlay's own: Docker's commit loses those.
 */
export async function hasUserXattrs(directory: string): Promise<boolean> {
  const { child, ended } = startScript("find-xattrs", { directory }, (reason) => new Unpackable(reason));
  let answer = "";
  child.stdout!.on("data", (chunk: Buffer) => (answer += chunk.toString()));
  await ended;
  return answer === "yes";
}
