import { closeSync, constants, openSync, readlinkSync } from "node:fs";
import { getXattr, listXattrs } from "../linux/xattr.ts";
import { dataSegments, type Segment } from "./file-calls.ts";
import { isPortableXattr, OPAQUE, OPAQUE_ENTRY, opaqueXattr, WHITEOUT_PREFIX, type Marks } from "./overlay-marks.ts";
import { printable, Refusal } from "./script.ts";
import { encodeMap, isSparse } from "./sparse-map.ts";
import { encodeEntry, padding, TYPES, xattrKey, type Entry } from "./tar-header.ts";
import type { TarOutput } from "./tar-output.ts";
import type { Found } from "./walk.ts";

const READ_NO_LINK = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
/** What an overlay keeps elsewhere, where no layer can have it. */
const UNPACKABLE = ["redirect", "metacopy", "whiteout"];
const EMPTY = { mode: 0, uid: 0, gid: 0, size: 0, mtimeNs: 0n };

/** Writes what is found in one tree into an archive. */
export class TreeWriter {
  readonly #output: TarOutput;
  readonly #prefix: string;
  readonly #options: { sparse: boolean; marks: Marks };
  /** The name under which each file of several names is in the archive. */
  readonly #written = new Map<string, string>();

  constructor(output: TarOutput, prefix: string, options: { sparse: boolean; marks: Marks }) {
    this.#output = output;
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.#options = options;
  }

  write(found: Found): void {
    const { path, name, stat } = found;
    const [parent, own] = splitName(path);
    if (stat.isSocket()) return;
    if (own.startsWith(WHITEOUT_PREFIX))
      throw new Refusal(`A layer cannot hold the name ${printable(own)}: it means that something is deleted.`);
    if (stat.isCharacterDevice() && stat.rdev === 0n)
      return this.#entry({ ...EMPTY, name: this.#prefix + parent + WHITEOUT_PREFIX + own, type: TYPES.file });
    const names = listXattrs(name);
    for (const kind of UNPACKABLE)
      if (names.includes(`${this.#options.marks}.overlay.${kind}`))
        throw new Refusal(`A layer cannot hold ${printable(path)}: it is an overlay's ${kind}.`);
    const entry = this.#describe(found, names);
    if (stat.isDirectory()) {
      this.#entry({ ...entry, name: `${entry.name}/`, type: TYPES.directory });
      if (this.#isOpaque(name, path))
        this.#entry({ ...EMPTY, name: `${entry.name}/${OPAQUE_ENTRY}`, type: TYPES.file });
      return;
    }
    const id = `${stat.dev}:${stat.ino}`;
    const first = stat.nlink > 1n ? this.#written.get(id) : undefined;
    // With its attributes once more: who sets the owner of a link, as Docker does, takes the file's capabilities away.
    if (first !== undefined) return this.#entry({ ...entry, type: TYPES.link, linkName: first });
    if (stat.nlink > 1n) this.#written.set(id, entry.name);
    if (stat.isFile()) this.#file(found, entry);
    else if (stat.isSymbolicLink())
      this.#entry({
        ...entry,
        type: TYPES.symlink,
        linkName: readlinkSync(name, { encoding: "buffer" }).toString("latin1"),
      });
    else if (stat.isFIFO()) this.#entry({ ...entry, type: TYPES.fifo });
    else
      this.#entry({ ...entry, type: stat.isBlockDevice() ? TYPES.block : TYPES.character, device: numbers(stat.rdev) });
  }

  #describe({ path, name, stat }: Found, names: string[]): Omit<Entry, "type"> {
    const records = new Map<string, Buffer>();
    for (const xattr of names.filter(isPortableXattr)) {
      const value = getXattr(name, xattr);
      if (value !== undefined) records.set(xattrKey(xattr), value);
    }
    return {
      name: path === "" ? this.#prefix.slice(0, -1) || "." : this.#prefix + path,
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      size: 0,
      mtimeNs: stat.mtimeNs,
      records,
    };
  }

  #file({ name, stat }: Found, entry: Omit<Entry, "type">): void {
    const size = Number(stat.size);
    const fd = openSync(name, READ_NO_LINK);
    try {
      const whole: Segment[] = [{ offset: 0, length: size }];
      const segments = this.#options.sparse && size > 0 ? dataSegments(fd, size) : whole;
      if (isSparse(segments, size)) {
        const map = encodeMap(segments, size);
        const stored = segments.reduce((sum, { length }) => sum + length, map.length);
        const records = new Map(entry.records);
        const add = (key: string, value: string) => records.set(`GNU.sparse.${key}`, Buffer.from(value, "latin1"));
        add("major", "1");
        add("minor", "0");
        add("name", entry.name);
        add("realsize", String(size));
        this.#entry({ ...entry, records, size: stored, type: TYPES.file });
        this.#output.write(map);
        this.#copy(fd, segments);
      } else {
        this.#entry({ ...entry, size, type: TYPES.file });
        this.#copy(fd, whole);
      }
    } finally {
      closeSync(fd);
    }
  }

  #copy(fd: number, segments: Segment[]): void {
    let total = 0;
    for (const { offset, length } of segments) {
      this.#output.copyFrom(fd, offset, length);
      total += length;
    }
    this.#output.write(padding(total));
  }

  #isOpaque(name: Buffer, path: string): boolean {
    const value = getXattr(name, opaqueXattr(this.#options.marks));
    if (value === undefined || path === "") return false;
    if (value.equals(OPAQUE)) return true;
    throw new Refusal(`A layer cannot hold ${printable(path)}: its overlay marks it in an unknown way.`);
  }

  #entry(entry: Entry): void {
    try {
      this.#output.write(encodeEntry(entry));
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new Refusal(`A layer cannot hold ${printable(entry.name)}: ${error.message}`);
    }
  }
}

function splitName(path: string): [parent: string, own: string] {
  const slash = path.lastIndexOf("/") + 1;
  return [path.slice(0, slash), path.slice(slash)];
}

function numbers(device: bigint): { major: number; minor: number } {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return { major: Number(major), minor: Number(minor) };
}
