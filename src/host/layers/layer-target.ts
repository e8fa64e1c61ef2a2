import {
  chmodSync,
  closeSync,
  constants,
  ftruncateSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  symlinkSync,
} from "node:fs";
import { setXattr } from "../linux/xattr.ts";
import { linkTarget, type Target } from "./entry-path.ts";
import { linkFrom, makeFifo, makeWhiteout, setModifiedTime } from "./file-calls.ts";
import { isPortableXattr, OPAQUE, opaqueXattr, type Marks } from "./overlay-marks.ts";
import { Place } from "./place.ts";
import { printable, Refusal } from "./script.ts";
import { readMap } from "./sparse-map.ts";
import type { TarInput } from "./tar-input.ts";
import type { ReadEntry } from "./tar-reader.ts";

const NEW_FILE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const HERE = Buffer.from(".");

/** The directories that a layer is unpacked into. Nothing that is there is ever replaced, nor reached through a link. */
export class LayerTarget {
  readonly #place: Place;
  readonly #input: TarInput;
  readonly #options: { marks: Marks; privileged: boolean };
  /** Attributes of directories come last: they would change with, or hand down to, what is put in. */
  readonly #directories = new Map<string, { names: string[]; entry: ReadEntry }>();

  constructor(destination: string, input: TarInput, options: { marks: Marks; privileged: boolean }) {
    this.#place = new Place(Buffer.from(destination));
    this.#input = input;
    this.#options = options;
  }

  addDirectory({ parent, own }: Target, entry: ReadEntry): void {
    const names = own === undefined ? parent : [...parent, own];
    const key = names.join("/");
    if (this.#directories.has(key)) throw new Refusal(`the layer's entry ${printable(entry.name)} is there twice`);
    if (own !== undefined) mkdirSync(this.#goTo(parent, own), 0o700);
    this.#directories.set(key, { names, entry });
  }

  addFile({ parent, own }: Target, entry: ReadEntry): void {
    const name = this.#goTo(parent, own);
    const fd = openSync(name, NEW_FILE, 0o600);
    try {
      this.#fill(fd, entry);
    } finally {
      closeSync(fd);
    }
    this.#describe(name, entry);
  }

  addSymlink({ parent, own }: Target, entry: ReadEntry): void {
    const name = this.#goTo(parent, own);
    if (entry.linkName!.includes("\0")) throw new Refusal("the layer has a link to no name");
    symlinkSync(Buffer.from(entry.linkName!, "latin1"), name);
    this.#describe(name, entry);
  }

  addFifo({ parent, own }: Target, entry: ReadEntry): void {
    const name = this.#goTo(parent, own);
    makeFifo(name);
    this.#describe(name, entry);
  }

  addLink({ tree, parent, own }: Target, entry: ReadEntry, trees: string[]): void {
    const from = linkTarget(entry.linkName!, trees);
    if (from.tree !== tree)
      throw new Refusal(`the layer's entry ${printable(entry.name)} is a hard link to another filesystem`);
    const fromName = this.#goTo(from.parent, from.own);
    const stat = lstatSync(fromName);
    if (!stat.isFile() && !stat.isSymbolicLink() && !stat.isFIFO())
      throw new Refusal(`the layer's entry ${printable(entry.name)} is a hard link to what is no file`);
    const directory = openSync(HERE, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      linkFrom(directory, fromName, this.#goTo(parent, own));
    } finally {
      closeSync(directory);
    }
  }

  addWhiteout({ parent, own }: Target): void {
    makeWhiteout(this.#goTo(parent, own));
  }

  markOpaque({ parent, own }: Target): void {
    this.#place.goTo([...parent, own!]);
    setXattr(HERE, opaqueXattr(this.#options.marks), OPAQUE);
  }

  /** Gives the directories their attributes, those in the depth first; `each` runs the step of one entry. */
  finish(each: (name: string, work: () => void) => void): void {
    for (const { names, entry } of [...this.#directories.values()].toReversed()) {
      each(entry.name, () => {
        this.#place.goTo(names);
        this.#describe(HERE, entry);
      });
    }
  }

  #goTo(parent: string[], own: string | undefined): Buffer {
    this.#place.goTo(parent);
    return Buffer.from(own!, "latin1");
  }

  #fill(fd: number, { size, sparseSize }: ReadEntry): void {
    if (sparseSize === undefined) this.#input.copyTo(fd, 0, size);
    else {
      const { segments } = readMap(this.#input, size, sparseSize);
      for (const { offset, length } of segments) this.#input.copyTo(fd, offset, length);
      ftruncateSync(fd, sparseSize);
    }
    this.#input.skipPadding(size);
  }

  /** In the one order in which no step undoes another: an owner takes away setuid and capabilities. */
  #describe(name: Buffer, { type, mode, uid, gid, mtimeNs, xattrs }: ReadEntry): void {
    if (this.#options.privileged) lchownSync(name, uid, gid);
    if (type !== "2") chmodSync(name, mode);
    for (const [xattr, value] of xattrs) {
      if (!isPortableXattr(xattr)) continue;
      if (xattr.startsWith("trusted.") && !this.#options.privileged) continue;
      setXattr(name, xattr, value);
    }
    setModifiedTime(name, mtimeNs);
  }
}
