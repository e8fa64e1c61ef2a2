/**
 * Puts a layer from standard input into fresh directories in the shape of an overlay's upper ones. The layer may be
 * anybody's: every step is by a single name in a directory reached without links, and makes what was not there. Runs as
 * a process of its own; see `unpack.ts`.
 */
import { getSystemErrorName } from "node:util";
import { meaningOf } from "./entry-path.ts";
import { LayerTarget } from "./layer-target.ts";
import type { Marks } from "./overlay-marks.ts";
import { printable, Refusal, runScript } from "./script.ts";
import { TYPES } from "./tar-header.ts";
import { TarInput } from "./tar-input.ts";
import { readEntry, type ReadEntry } from "./tar-reader.ts";

export interface ExtractLayerArgument {
  destination: string;
  trees: string[];
  marks: Marks;
  /** Whether owners are kept, and attributes that only the real root may set. */
  privileged: boolean;
}

/** Not the layer's fault. */
const OF_THE_MACHINE = new Set(["ENOSPC", "EDQUOT", "EIO", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "EOPNOTSUPP"]);
const REASONS: Record<string, string> = {
  EEXIST: "is there twice",
  ENOENT: "lies in a directory, or leads to a file, that the layer does not have",
  ENOTDIR: "lies below what is no directory",
  ELOOP: "lies below a link",
};

runScript(({ destination, ...options }: ExtractLayerArgument) => {
  const input = new TarInput(0);
  const target = new LayerTarget(destination, input, options);
  for (let entry = readEntry(input); entry !== undefined; entry = readEntry(input)) {
    const { name } = entry;
    explained(name, () => apply(entry!, target, options.trees));
  }
  target.finish(explained);
  input.drain();
});

function apply(entry: ReadEntry, target: LayerTarget, trees: string[]): void {
  const { kind, target: at } = meaningOf(entry.name, entry.type === TYPES.directory, trees);
  if (kind !== "entry") {
    if (entry.type !== TYPES.file || entry.size !== 0 || entry.sparseSize !== undefined)
      throw new Refusal(`the layer's entry ${printable(entry.name)} has the name of a mark and is no empty file`);
    if (kind === "opaque") target.markOpaque(at);
    else target.addWhiteout(at);
  } else if (entry.type === TYPES.file) target.addFile(at, entry);
  else {
    if (entry.sparseSize !== undefined) throw new Refusal(`${printable(entry.name)} is sparse and no file`);
    // Nothing but a file has bytes; taken for nothing, they would be read as the next header.
    if (entry.size !== 0) throw new Refusal(`the layer's entry ${printable(entry.name)} has bytes and is no file`);
    addOther(at, entry, target, trees);
  }
}

function addOther(
  at: Parameters<LayerTarget["addFile"]>[0],
  entry: ReadEntry,
  target: LayerTarget,
  trees: string[],
): void {
  if (entry.type === TYPES.directory) target.addDirectory(at, entry);
  else if (entry.type === TYPES.symlink) target.addSymlink(at, entry);
  else if (entry.type === TYPES.link) target.addLink(at, entry, trees);
  else if (entry.type === TYPES.fifo) target.addFifo(at, entry);
  else if (entry.type === TYPES.character || entry.type === TYPES.block)
    throw new Refusal(`the layer's entry ${printable(entry.name)} is a device`);
  else throw new Refusal(`the layer's entry ${printable(entry.name)} is of an unknown type`);
}

/** Puts the blame for what the kernel says where it belongs. */
function explained(name: string, work: () => void): void {
  try {
    work();
  } catch (error) {
    const { errno, message } = error as NodeJS.ErrnoException;
    if (typeof errno !== "number") throw error;
    const code = getSystemErrorName(-Math.abs(errno));
    if (OF_THE_MACHINE.has(code)) throw new Error(`${printable(name)}: ${code}: ${message}`, { cause: error });
    throw new Refusal(`the layer's entry ${printable(name)} ${REASONS[code] ?? `cannot be made: ${code}`}`);
  }
}
