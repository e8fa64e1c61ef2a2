import type { FileInfo, FileType } from "./file.ts";

/** What `stat` says of a file, as numbers and as text. */
export interface RawStat {
  /** Type and permissions, as the kernel has them. */
  mode: number;
  size: bigint;
  seconds: bigint;
  nanoseconds: number;
  owner: string;
  group: string;
  target: string | undefined;
}

const S_IFMT = 0o170000;
const S_IFLNK = 0o120000;
/** The bits of those types that every backend can make. */
export const TYPE_BITS = { file: 0o100000, directory: 0o040000, symlink: S_IFLNK } as const;
/** By the four bits of the type: the letter of `ls -l`. */
const TYPES: Record<number, { letter: string; type: FileType }> = {
  0o010000: { letter: "p", type: "other" },
  0o020000: { letter: "c", type: "other" },
  0o040000: { letter: "d", type: "directory" },
  0o060000: { letter: "b", type: "other" },
  0o100000: { letter: "-", type: "file" },
  [S_IFLNK]: { letter: "l", type: "symlink" },
  0o140000: { letter: "s", type: "other" },
};
/** The years 1 and 9999: a date beyond has no name. */
const MIN_SECONDS = -62_135_596_800n;
const MAX_SECONDS = 253_402_300_799n;
const MAX_SIZE = BigInt(Number.MAX_SAFE_INTEGER);
const NANOSECONDS = 1_000_000_000n;

export const isLink = (mode: number) => (mode & S_IFMT) === S_IFLNK;

/** A time in nanoseconds since 1970, the fraction counted forward before that, too. */
export function timeOf(nanoseconds: bigint): Pick<RawStat, "seconds" | "nanoseconds"> {
  const fraction = ((nanoseconds % NANOSECONDS) + NANOSECONDS) % NANOSECONDS;
  return { seconds: (nanoseconds - fraction) / NANOSECONDS, nanoseconds: Number(fraction) };
}

/** What a client is told of the file at a path, which is taken as it is. */
export function fileInfo(path: string, raw: RawStat): FileInfo {
  const { letter, type } = TYPES[raw.mode & S_IFMT] ?? { letter: "?", type: "other" };
  return {
    name: path === "/" ? "/" : path.slice(path.lastIndexOf("/") + 1),
    path,
    type,
    size: Number(raw.size < MAX_SIZE ? raw.size : MAX_SIZE),
    mode: (raw.mode & 0o7777).toString(8),
    permissions: letter + permissionsOf(raw.mode),
    owner: raw.owner,
    group: raw.group,
    modified_at: dateOf(raw.seconds, raw.nanoseconds),
    ...(raw.target !== undefined && { symlink_target: raw.target }),
  };
}

function permissionsOf(mode: number): string {
  const bits = [..."rwxrwxrwx"].map((letter, index) => (mode & (0o400 >> index) ? letter : "-"));
  for (const [bit, index, letter] of [
    [0o4000, 2, "s"],
    [0o2000, 5, "s"],
    [0o1000, 8, "t"],
  ] as const) {
    if (mode & bit) bits[index] = bits[index] === "x" ? letter : letter.toUpperCase();
  }
  return bits.join("");
}

function dateOf(seconds: bigint, nanoseconds: number): string {
  const named = seconds < MIN_SECONDS ? MIN_SECONDS : seconds > MAX_SECONDS ? MAX_SECONDS : seconds;
  const date = new Date(Number(named) * 1000).toISOString();
  return `${date.slice(0, -"000Z".length)}${String(nanoseconds).padStart(9, "0")}Z`;
}
