import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { CommitIdSchema } from "../../contract/volume-sync.ts";
import { readLine, writeLines, type Learned } from "./baseline.ts";

const HeadSchema = z.object({ commit_id: CommitIdSchema, parts: z.int(), changed_files: z.int() });

/** A commit whose parts the control plane has: what is left is to say that they are all, as often as it takes. */
export interface Pending {
  commitId: string;
  parts: number;
  changedFiles: number;
  /** What is known once it is done. */
  learned: Learned[];
}

/** On the disk when it is done. */
export async function keepPending(path: string, { commitId, parts, changedFiles, learned }: Pending): Promise<void> {
  const draft = `${path}.new`;
  const file = openSync(draft, "w", 0o600);
  try {
    writeFileSync(file, `${JSON.stringify({ commit_id: commitId, parts, changed_files: changedFiles })}\n`);
    await writeLines(file, learned);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(draft, path);
}

/** Undefined where there is none. */
export function readPending(path: string): Pending | undefined {
  let lines: string[];
  try {
    lines = readFileSync(path, "utf8").trimEnd().split("\n");
  } catch {
    return undefined;
  }
  const head = HeadSchema.parse(JSON.parse(lines[0]!));
  const learned = lines.slice(1).map(readLine);
  return { commitId: head.commit_id, parts: head.parts, changedFiles: head.changed_files, learned };
}

export function dropPending(path: string): void {
  rmSync(path, { force: true });
}
