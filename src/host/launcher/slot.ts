import { existsSync, unlinkSync } from "node:fs";
import { makeFifo } from "../linux/libc.ts";
import type { SpawnSpec } from "../runtime.ts";
import type { Streams } from "./spec-script.ts";

/** The FIFOs that a slot may have, by their endings; `st` and `ack` it always has. */
const PARTS = ["ack", "st", "in", "out", "err", "hold"] as const;
type Part = (typeof PARTS)[number];

export type SlotParts = ReadonlySet<Part>;

/** The parts that a process needs. On a terminal it has no pipes. */
export function partsFor(spec: Pick<SpawnSpec, "input" | "stdout" | "stderr">, isTerminal: boolean): SlotParts {
  const parts = new Set<Part>(["ack", "st"]);
  if (isTerminal) return parts;
  if (spec.input !== "none") parts.add("in");
  if (spec.input === "open") parts.add("hold");
  if (spec.stdout !== "ignore") parts.add("out");
  if (spec.stderr !== "ignore") parts.add("err");
  return parts;
}

/** The parts that are there. */
export function partsAt(base: string): SlotParts {
  return new Set(PARTS.filter((part) => existsSync(`${base}.${part}`)));
}

export function makeSlot(base: string, parts: SlotParts): void {
  for (const part of parts) makeFifo(`${base}.${part}`);
}

/** Removes the files of a slot: a launcher that reads its name later starts nothing. */
export function removeSlot(base: string, parts: SlotParts): void {
  for (const part of [...parts, "spec"] as const) removePart(base, part);
}

export function removePart(base: string, part: Part | "spec"): void {
  try {
    unlinkSync(`${base}.${part}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

/** Where the streams of a slot lead, `base` being its path inside of the container. */
export function streamsOf(base: string, parts: SlotParts): Streams {
  const path = (part: Part) => (parts.has(part) ? `${base}.${part}` : "/dev/null");
  return { stdin: path("in"), stdout: path("out"), stderr: path("err") };
}

/** The slot that a process id names. */
export const slotOf = (processId: string): string => processId.replaceAll("-", "");
