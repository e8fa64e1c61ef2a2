import {
  chmodSync,
  closeSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { getSystemErrorName } from "node:util";
import { makeFifo, setModifiedTime } from "../../../src/host/layers/file-calls.ts";
import { setXattr } from "../../../src/host/linux/xattr.ts";
import type { Random } from "./random.ts";

/** What a change meets that is none of a test's concern: a lower directory that is renamed, a path that got too long. */
const HARMLESS = new Set([
  "EEXIST",
  "ENOENT",
  "ENOTDIR",
  "EXDEV",
  "EISDIR",
  "ENOTEMPTY",
  "EINVAL",
  "EMLINK",
  "ENAMETOOLONG",
  "EBUSY",
  "EPERM",
]);
const MAX_PATH_BYTES = 3700;
/** Only the real root has others' files and the attributes `trusted.*`. */
const PRIVILEGED = process.env["SANDBAR_TEST_PRIVILEGED"] === "1";
const IDS = PRIVILEGED ? [0, 0, 1, 1000, 65_534, 3_000_000] : [0];
const MODES = [0o644, 0o600, 0o755, 0o4755, 0o2755, 0o6711, 0o1777, 0o000, 0o444, 0o7777];

/** Makes and changes entries of every kind below a directory. Paths are latin1 strings, relative to it. */
export class Mutator {
  made = 0;
  readonly #root: string;
  readonly #random: Random;
  #directories = [""];
  #others: string[] = [];

  constructor(root: string, random: Random) {
    this.#root = root;
    this.#random = random;
  }

  /** Gets to know what is there. */
  find(): void {
    const visit = (directory: string) => {
      for (const entry of readdirSync(this.#full(directory), { withFileTypes: true, encoding: "buffer" })) {
        const path = join(directory, entry.name.toString("latin1"));
        if (!entry.isDirectory()) this.#others.push(path);
        else {
          this.#directories.push(path);
          visit(path);
        }
      }
    };
    visit("");
  }

  /** A path almost as long as any can be. */
  createDeep(): void {
    for (let path = this.#name(); path.length < MAX_PATH_BYTES - 256; path = join(path, "d".repeat(255)))
      this.#harmlessly(() => {
        mkdirSync(this.#full(path));
        this.#directories.push(path);
        this.#make(join(path, this.#name()));
      });
  }

  create(): void {
    const random = this.#random;
    // Now and then far down, for the sake of long paths.
    const parent = random.chance(5) ? this.#directories.at(-1)! : random.pick(this.#directories);
    const path = join(parent, this.#name());
    if (path.length > MAX_PATH_BYTES) return;
    this.#harmlessly(() => this.#make(path));
  }

  change(): void {
    const random = this.#random;
    const other = this.#others.length > 0 ? random.pick(this.#others) : undefined;
    const directory = random.pick(this.#directories.slice(1).concat(""));
    const change = random.below(20);
    this.#harmlessly(() => {
      if (change < 7 || other === undefined) this.create();
      else if (change < 9) unlinkSync(this.#full(other));
      else if (change < 11) this.#describe(random.chance(50) && directory !== "" ? directory : other);
      else if (change < 13) this.#write(other);
      else if (change < 14) renameSync(this.#full(other), this.#full(join(directory, this.#name())));
      else if (change < 15) renameSync(this.#full(other), this.#full(random.pick(this.#others)));
      else if (change < 16 && directory !== "") renameSync(this.#full(directory), this.#full(this.#name()));
      else if (change < 18) this.#replace(random.chance(30) && directory.includes("/") ? directory : other);
      else linkSync(this.#full(other), this.#full(join(directory, this.#name())));
    });
  }

  #make(path: string): void {
    const random = this.#random;
    const full = this.#full(path);
    const kind = random.below(100);
    if (kind < 20) {
      mkdirSync(full);
      this.#directories.push(path);
    } else {
      if (kind < 30) symlinkSync(this.#name().repeat(1 + random.below(3)), full);
      else if (kind < 34) makeFifo(full);
      else if (kind < 42 && this.#others.length > 0) linkSync(this.#full(random.pick(this.#others)), full);
      else if (kind < 50) this.#makeSparse(full);
      else if (kind < 51) writeFileSync(full, random.bytes(500_000));
      else writeFileSync(full, random.bytes(random.pick([0, 0, 1, 511, 512, 513, 4096, 5000])));
      this.#others.push(path);
    }
    this.made++;
    this.#describe(path);
  }

  /** Holes at the start, in the middle, at the end, or everywhere. */
  #makeSparse(full: Buffer): void {
    const random = this.#random;
    const fd = openSync(full, "wx");
    try {
      for (let piece = random.below(4); piece > 0; piece--)
        writeSync(fd, random.bytes(random.pick([1, 4096, 9000])), 0, null, random.below(50) * 8192);
      if (random.chance(60)) ftruncateSync(fd, random.pick([4096, 150_000, 150_001, 5_000_000_000]));
    } finally {
      closeSync(fd);
    }
  }

  #write(path: string): void {
    const full = this.#full(path);
    if (!lstatSync(full).isFile() || lstatSync(full).size > 10_000_000) return;
    if (this.#random.chance(50)) writeFileSync(full, this.#random.bytes(300), { flag: "a" });
    else truncateSync(full, this.#random.below(20_000));
  }

  /** Something else under the same name: a directory that is made again hides all below, a file in its place also. */
  #replace(path: string): void {
    rmSync(this.#full(path), { recursive: true });
    if (this.#random.chance(60)) this.#make(path);
    else mkdirSync(this.#full(path));
  }

  #describe(path: string): void {
    const random = this.#random;
    const full = this.#full(path);
    const stat = lstatSync(full);
    lchownSync(full, random.pick(IDS), random.pick(IDS));
    if (!stat.isSymbolicLink()) chmodSync(full, random.pick(MODES));
    for (const [name, value] of this.#xattrs(stat.isFile(), stat.isDirectory())) setXattr(full, name, value);
    if (random.chance(10))
      setModifiedTime(full, random.pick([0n, -1n, -1_500_000_000n, 1_999_999_999n, 4_000_000_000_123_456_789n]));
    else
      setModifiedTime(full, BigInt(random.below(2_000_000_000)) * 1_000_000_000n + BigInt(random.below(1_000_000_000)));
  }

  #xattrs(isFile: boolean, isDirectory: boolean): [string, Buffer][] {
    const random = this.#random;
    const found: [string, Buffer][] = [];
    if (isFile || isDirectory) {
      if (random.chance(20))
        found.push([
          random.pick(["user.a", "user.b=%3D", "user.\xff\xfe", "user.new\nline"]),
          random.bytes(random.below(40)),
        ]);
      if (random.chance(10)) found.push(["user.nul", Buffer.from("a\0b\0\n=7 x\0")]);
      if (random.chance(10)) found.push(["system.posix_acl_access", acl(random)]);
      if (isDirectory && random.chance(10)) found.push(["system.posix_acl_default", acl(random)]);
    }
    if (isFile && random.chance(10)) found.push(["security.capability", capability(random)]);
    if (PRIVILEGED && random.chance(10)) found.push(["trusted.test", random.bytes(8)]);
    return found;
  }

  #name(): string {
    const random = this.#random;
    const own = random.below(1 << 30).toString(36);
    const kind = random.below(20);
    if (kind === 0) return `${own}\xff\xfe\x80`;
    if (kind === 1) return `${own}\nnew line\t"'\\ *`;
    if (kind === 2) return own.padEnd(255, "x");
    if (kind === 3) return own.padEnd(100 + random.below(60), "y");
    if (kind === 4) return Buffer.from(`${own} ünï 漢字`).toString("latin1");
    if (kind === 5) return `-${own}=`;
    return own;
  }

  #full(path: string): Buffer {
    return Buffer.concat([Buffer.from(`${this.#root}/`), Buffer.from(path, "latin1")]);
  }

  #harmlessly(work: () => void): void {
    try {
      work();
    } catch (error) {
      const { errno } = error as NodeJS.ErrnoException;
      if (typeof errno !== "number" || !HARMLESS.has(getSystemErrorName(-Math.abs(errno)))) throw error;
    }
  }
}

function join(directory: string, name: string): string {
  return directory === "" ? name : `${directory}/${name}`;
}

/** An access list that gives one more user something, in the kernel's form. */
function acl(random: Random): Buffer {
  const entries = [
    [0x01, 7, 0xffffffff],
    [0x02, random.below(8), random.pick(IDS)],
    [0x04, 5, 0xffffffff],
    [0x10, random.below(8), 0xffffffff],
    [0x20, random.below(8), 0xffffffff],
  ];
  const value = Buffer.alloc(4 + entries.length * 8);
  value.writeUInt32LE(2, 0);
  for (const [index, [tag, bits, id]] of entries.entries()) {
    value.writeUInt16LE(tag!, 4 + index * 8);
    value.writeUInt16LE(bits!, 6 + index * 8);
    value.writeUInt32LE(id!, 8 + index * 8);
  }
  return value;
}

function capability(random: Random): Buffer {
  const value = Buffer.alloc(20);
  value.writeUInt32LE(0x02000001, 0);
  value.writeUInt32LE(1 << random.below(20), 4);
  return value;
}
