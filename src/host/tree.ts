import { randomBytes } from "node:crypto";
import { posix } from "node:path";
import { ApiError } from "../contract/errors.ts";
import { fileInfo } from "../contract/file-info.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import { checkEntry, trimmed } from "./entry-path.ts";
import { fileErrorOf, readLine, runScript, runToEnd, type RunningScript } from "./file-script-run.ts";
import type { Container } from "./runtime.ts";
import { statEnd, statFormat, statRecords } from "./stat-records.ts";
import { settlesWithin, tooSlow, withTimeLimit } from "./time-limit.ts";
import { viewList, viewStat } from "./tree-view.ts";
import { LIST_SCRIPT, MAKE_DIRECTORY_SCRIPT, MOVE_SCRIPT, REMOVE_SCRIPT, STAT_SCRIPT } from "./tree-scripts.ts";

/** How long a script may say nothing while it looks about. */
const STALL_MS = 30_000;
/** How long a move to another filesystem, and the removal of a tree, may take. */
const CHANGE_TIMEOUT_MS = 600_000;
/** How long the removal of what a failed move left is waited for. */
const DISCARD_PATIENCE_MS = 5_000;

/** What is at a path of the container. Throws the file errors. */
export async function stat(container: Container, path: string): Promise<FileInfo> {
  const seen = await viewStat(container, path);
  if (seen) return seen;
  const nonce = newNonce();
  const script = await runScript(container, STAT_SCRIPT, [path, statFormat(nonce), statEnd(nonce)]);
  return infoFrom(script, nonce, trimmed(path));
}

/** What a directory of the container holds. The signal ends it. Throws the file errors and `payload_too_large`. */
export async function list(
  container: Container,
  path: string,
  request: FileListRequest,
  signal?: AbortSignal,
): Promise<FileList> {
  const seen = await viewList(container, path, request, signal);
  if (seen) return seen;
  const { depth, limit, after } = request;
  const nonce = newNonce();
  const script = await runScript(container, LIST_SCRIPT, [path, String(depth), statFormat(nonce), statEnd(nonce)], {
    signal,
  });
  const base = trimmed(path) === "/" ? "" : trimmed(path);
  const page = new Page(limit);
  try {
    for await (const { name, raw } of records(script, nonce)) {
      if (!name.startsWith("./")) throw new Error("a file of another directory");
      const found = base + name.slice(1);
      if (after === undefined || found > after) page.add(fileInfo(found, raw));
    }
  } finally {
    script.kill();
  }
  return page.done();
}

/** Makes a directory of the container, see `Backend.makeDirectory`. */
export async function makeDirectory(container: Container, path: string, parents: boolean): Promise<FileInfo> {
  const nonce = newNonce();
  const args = [path, parents ? "1" : "", statFormat(nonce), statEnd(nonce)];
  return infoFrom(await runScript(container, MAKE_DIRECTORY_SCRIPT, args), nonce, trimmed(path));
}

/** Renames something of the container, see `Backend.move`. Once begun it is done, whether or not somebody waits for it. */
export async function move(container: Container, from: string, to: string): Promise<void> {
  checkEntry(from, "`from`");
  checkEntry(to, "`to`");
  const name = `.sandbar-${newNonce()}`;
  const script = await runScript(container, MOVE_SCRIPT, [from, to, name]);
  try {
    await toEnd(script, "The move");
  } catch (error) {
    const beside = `${posix.dirname(trimmed(to))}/${name}`;
    if (script.line === "begun")
      await settlesWithin(runToEnd(container, REMOVE_SCRIPT, [beside, "1"]), DISCARD_PATIENCE_MS);
    throw error;
  }
}

/** Removes something of the container, see `Backend.remove`. Once begun it is done, whether or not somebody waits for it. */
export async function remove(container: Container, path: string, recursive: boolean): Promise<void> {
  checkEntry(path, "The path");
  await toEnd(await runScript(container, REMOVE_SCRIPT, [path, recursive ? "1" : ""]), "The removal");
}

const newNonce = () => randomBytes(12).toString("hex");

/** The one record of a script, which is about a path. */
async function infoFrom(script: RunningScript, nonce: string, path: string): Promise<FileInfo> {
  try {
    for await (const { raw } of records(script, nonce)) return fileInfo(path, raw);
    throw new ApiError("file_not_found");
  } finally {
    script.kill();
  }
}

function records(script: RunningScript, nonce: string) {
  script.spawned.stdin.end();
  const next = () => withTimeLimit(script.bytes.next(), STALL_MS, tooSlow("Looking at the files"));
  return statRecords(next, nonce);
}

/** Waits for the last line of a script that changes something. */
async function toEnd(script: RunningScript, what: string): Promise<void> {
  script.spawned.stdin.end();
  try {
    const line =
      script.line === "begun"
        ? (await withTimeLimit(readLine(script.bytes), CHANGE_TIMEOUT_MS, tooSlow(what)))?.line
        : script.line;
    if (line === "done") return;
    if (line === "into_itself") throw new ApiError("invalid_request", { detail: "A directory cannot go into itself." });
    throw fileErrorOf(line) ?? new Error(`${what} did not end well: ${line}`);
  } finally {
    script.kill();
  }
}

/** The first of many by their paths, never holding many more than these. */
class Page {
  readonly #limit: number;
  #kept: FileInfo[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(info: FileInfo): void {
    this.#kept.push(info);
    if (this.#kept.length > 2 * this.#limit + 100) this.#prune();
  }

  done(): FileList {
    this.#prune();
    return { data: this.#kept.slice(0, this.#limit), more: this.#kept.length > this.#limit };
  }

  #prune(): void {
    this.#kept = this.#kept.toSorted((a, b) => (a.path < b.path ? -1 : 1)).slice(0, this.#limit + 1);
  }
}
