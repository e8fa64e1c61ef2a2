import type { BigIntStats } from "node:fs";
import { VOLUME_CHUNK_BYTES, type VolumeEntry } from "../../contract/volume-sync.ts";
import { isRoot } from "../linux/programs.ts";
import type { Known, PresentEntry } from "./baseline.ts";
import { ownerIn } from "./stamp.ts";

/** A time that Node sets is off by less. */
const MTIME_TOLERANCE_NS = 1_000n;
const ownUid = process.getuid?.() ?? 0;
const ownGid = process.getgid?.() ?? 0;

/** What an entry says of what is there, its content apart. Where that is as it was when it was known, it says what was known. */
export function attributesOf(stat: BigIntStats, known: Known | undefined) {
  const owner = known && ownerIn(known.stamp);
  const uid = Number(stat.uid);
  const gid = Number(stat.gid);
  const isSameOwner = known && owner?.uid === uid && owner.gid === gid;
  return {
    mode: Number(stat.mode) & 0o7777,
    uid: isSameOwner ? known.entry.uid : insideId(uid, ownUid),
    gid: isSameOwner ? known.entry.gid : insideId(gid, ownGid),
    mtime: mtimeOf(stat, known),
  };
}

/** A daemon that is not root is its sandboxes' root. */
const insideId = (id: number, own: number) => (!isRoot && id === own ? 0 : id);

function mtimeOf({ mtimeNs }: BigIntStats, known: Known | undefined): string {
  const before = known && BigInt(known.entry.mtime);
  const isSame = before !== undefined && mtimeNs - before < MTIME_TOLERANCE_NS && before - mtimeNs < MTIME_TOLERANCE_NS;
  return String(isSame ? before : mtimeNs);
}

/** Whether both say the same. Of a directory the time says nothing. */
export function isSameEntry(one: VolumeEntry, other: VolumeEntry): boolean {
  if (one.type === "removed" || other.type === "removed") return one.type === other.type;
  if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return false;
  if (one.type === "directory" || other.type === "directory") return one.type === other.type;
  return one.mtime === other.mtime && hasSameContent(one, other);
}

export function hasSameContent(one: PresentEntry, other: PresentEntry): boolean {
  if (one.type === "symlink" && other.type === "symlink") return one.target === other.target;
  if (one.type !== "file" || other.type !== "file") return false;
  return (
    one.size === other.size &&
    one.chunks.length === other.chunks.length &&
    one.chunks.every((hash, i) => hash === other.chunks[i])
  );
}

/** How many bytes the chunk of a file of this size has. */
export function chunkLength(size: number, index: number): number {
  return Math.min(VOLUME_CHUNK_BYTES, size - index * VOLUME_CHUNK_BYTES);
}

export const chunkCount = (size: number): number => Math.ceil(size / VOLUME_CHUNK_BYTES);
