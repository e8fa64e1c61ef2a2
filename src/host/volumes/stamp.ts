import type { BigIntStats } from "node:fs";

/** What is newer than this when it is looked at may change once more without another time: the clock of files has ticks. */
const TICK_NS = 50_000_000n;

/** What tells something at a path from what it was. The times of a directory are those of what it holds, and say nothing of itself. */
export function stampOf(stat: BigIntStats): string {
  const { ino, size, mtimeNs, ctimeNs, mode, uid, gid } = stat;
  if (stat.isDirectory()) return `${mode} ${uid} ${gid}`;
  return `${mode} ${uid} ${gid} ${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

/** The same of what was read after it was looked at, at a time in milliseconds: of what was too new then, one that says to look again. */
export function stampOfRead(stat: BigIntStats, lookedAt: number): string {
  const { mode, uid, gid, ctimeNs } = stat;
  const isNew = BigInt(lookedAt) * 1_000_000n - ctimeNs < TICK_NS;
  return isNew && !stat.isDirectory() ? `${mode} ${uid} ${gid} ?` : stampOf(stat);
}

/** Of what is to be looked at again. */
export const isUnsure = (stamp: string): boolean => stamp.endsWith("?");

/** Who owns it, as its stamp says. */
export function ownerIn(stamp: string): { uid: number; gid: number } | undefined {
  const [, uid, gid] = stamp.split(" ");
  return uid === undefined || gid === undefined ? undefined : { uid: Number(uid), gid: Number(gid) };
}
