import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { newId } from "../contract/ids.ts";

/** What an instance keeps from run to run. */
export interface DevState {
  devKey: string;
  signingSecret: string;
  hostId: string;
  /** Where the host listens: the same from run to run, so that a restart is no move. */
  hostPort: number;
}

const MIN_KEY_LENGTH = 16;

/** Reads the instance's state, or makes it; `DEV_KEY` wins over the key of the last run. */
export function loadState(directory: string, devKey: string | undefined, freePort: number): DevState {
  if (devKey !== undefined && devKey.length < MIN_KEY_LENGTH) {
    throw new Error(`DEV_KEY must have ${MIN_KEY_LENGTH} characters or more.`);
  }
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  chmodSync(directory, 0o700);
  const file = join(directory, "state.json");
  const before: Partial<DevState> = existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as DevState) : {};
  const state: DevState = {
    devKey: devKey ?? before.devKey ?? `sk-${randomBytes(24).toString("hex")}`,
    signingSecret: before.signingSecret ?? randomBytes(32).toString("hex"),
    hostId: before.hostId ?? newId("host"),
    hostPort: before.hostPort ?? freePort,
  };
  writeAtomically(file, JSON.stringify(state, null, 2));
  return state;
}

/** Writes a file that only its owner can read, whole or not at all. */
export function writeAtomically(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Does what is to be done once for these files and folders as they are now; the marker says for which it was. */
export async function whenChanged(marker: string, paths: readonly string[], work: () => Promise<void>): Promise<void> {
  const fingerprint = fingerprintOf(paths);
  if (existsSync(marker) && readFileSync(marker, "utf8") === fingerprint) return;
  // Work that is cut off has changed something, too.
  rmSync(marker, { force: true });
  await work();
  writeAtomically(marker, fingerprint);
}

function fingerprintOf(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) {
    for (const file of filesOf(path)) hash.update(`${file}\0`).update(readFileSync(file));
  }
  return hash.digest("hex");
}

function filesOf(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  const entries = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return entries.map(({ parentPath, name }) => join(parentPath, name)).toSorted();
}
