import { ApiError } from "../../src/contract/errors.ts";
import { fileInfo, timeOf, TYPE_BITS } from "../../src/contract/file-info.ts";
import type { FileInfo, FileList, FileListRequest, WatchEvent } from "../../src/contract/file.ts";

export type FakeNode = { mode: number; modifiedAt: number } & (
  | { type: "file"; bytes: Uint8Array }
  | { type: "directory" }
  | { type: "symlink"; target: string }
);
export type FakeFile = Extract<FakeNode, { type: "file" }>;

interface Resolve {
  /** Where a link at the very end leads; without it the link itself. */
  follows: boolean;
  /** What is missing is fine: it is to be made. */
  mayMiss?: boolean;
}

const MAX_LINKS = 40;

/** The files of a fake container, as a filesystem has them. */
export class FakeFiles {
  readonly #nodes = new Map<string, FakeNode>();
  readonly #listeners = new Set<(change: WatchEvent) => void>();

  constructor(nodes: Iterable<[string, FakeNode]> = IMAGE) {
    for (const [path, node] of nodes) this.#nodes.set(path, node);
  }

  copy(): FakeFiles {
    return new FakeFiles(this.#nodes);
  }

  get size(): number {
    return this.contents.reduce((sum, bytes) => sum + bytes.length, 0);
  }

  get contents(): Uint8Array[] {
    return [...this.#nodes.values()].flatMap((node) => (node.type === "file" ? [node.bytes] : []));
  }

  /** What is really at the path; throws where nothing is. */
  at(path: string, follows: boolean): { path: string; node: FakeNode } {
    const real = this.#resolve(path, { follows });
    const node = this.#nodes.get(real);
    if (!node) throw new ApiError("file_not_found");
    if (path.endsWith("/") && node.type !== "directory") throw new ApiError("not_a_directory");
    return { path: real, node };
  }

  /** The regular file at the path. */
  file(path: string): FakeFile {
    const { node } = this.at(path, true);
    if (node.type === "directory") throw new ApiError("is_a_directory");
    return node as FakeFile;
  }

  stat(path: string): FileInfo {
    const { node } = this.at(path, false);
    return infoOf(plain(path), node);
  }

  /** What the directory holds, with the paths as seen from there, in order. */
  list(path: string, { depth, limit, after }: FileListRequest): FileList {
    const directory = this.#directory(path);
    const shown = plain(path);
    const found = this.below(directory)
      .filter(([name]) => name.split("/").length <= depth)
      .map(([name, node]) => infoOf(join(shown, name), node))
      .filter((info) => after === undefined || info.path > after)
      .toSorted((a, b) => (a.path < b.path ? -1 : 1));
    return { data: found.slice(0, limit), more: found.length > limit };
  }

  /** All that is below the directory of this real path, by the names relative to it; parents before their children. */
  below(directory: string): [string, FakeNode][] {
    const prefix = join(directory, "");
    return [...this.#nodes]
      .filter(([path]) => path !== "/" && path.startsWith(prefix))
      .map(([path, node]): [string, FakeNode] => [path.slice(prefix.length), node])
      .toSorted(([a], [b]) => (a < b ? -1 : 1));
  }

  makeDirectory(path: string, parents: boolean): FileInfo {
    const real = this.#resolve(path, { follows: parents, mayMiss: parents });
    const there = this.#nodes.get(real);
    if (there && (there.type !== "directory" || !parents)) throw new ApiError("file_exists");
    this.#makeParents(real);
    if (!there) this.put(real, { type: "directory", mode: 0o755, modifiedAt: Date.now() });
    return this.stat(path);
  }

  /** Where a write to the path goes: its parents are made, a link is followed. */
  target(path: string): string {
    const real = this.#resolve(path, { follows: true, mayMiss: true });
    if (path.endsWith("/") || this.#nodes.get(real)?.type === "directory") throw new ApiError("is_a_directory");
    return real;
  }

  /** Puts the node at the real path, and tells who watches. */
  put(real: string, node: FakeNode): void {
    this.#makeParents(real);
    const event = this.#nodes.has(real) ? "modify" : "create";
    this.#nodes.set(real, node);
    this.#tell({ event, path: real });
  }

  move(from: string, to: string): void {
    const source = this.at(from, false);
    const target = this.#resolve(to, { follows: false, mayMiss: true });
    if (target === source.path) return;
    if (target.startsWith(join(source.path, "")))
      throw new ApiError("invalid_request", { errors: [{ path: "to", message: "must not lie in `from`" }] });
    const there = this.#nodes.get(target);
    const isDirectory = source.node.type === "directory";
    if (!isDirectory && there?.type === "directory") throw new ApiError("is_a_directory");
    if (isDirectory && there && there.type !== "directory") throw new ApiError("not_a_directory");
    if (!isDirectory && to.endsWith("/")) throw new ApiError("not_a_directory");
    if (there && this.below(target).length > 0) throw new ApiError("directory_not_empty");
    this.#makeParents(target);
    const moved = this.below(source.path);
    for (const [name] of moved) this.#nodes.delete(join(source.path, name));
    this.#nodes.delete(source.path);
    this.#nodes.set(target, source.node);
    for (const [name, node] of moved) this.#nodes.set(join(target, name), node);
    this.#tell({ event: "rename", path: target, from: source.path });
  }

  remove(path: string, recursive: boolean): void {
    const { path: real } = this.at(path, false);
    if (real === "/") throw new ApiError("invalid_request", { errors: [{ path: "path", message: "must not be `/`" }] });
    const below = this.below(real);
    if (below.length > 0 && !recursive) throw new ApiError("directory_not_empty");
    for (const [name] of below.toReversed()) this.#drop(join(real, name));
    this.#drop(real);
  }

  /** Makes the directory, and all above it; answers its real path. */
  ensureDirectory(path: string): string {
    const real = this.#resolve(path, { follows: true, mayMiss: true });
    this.#makeParents(join(real, "x"));
    return real;
  }

  get isWatched(): boolean {
    return this.#listeners.size > 0;
  }

  /** Tells of every change, with real paths, until the answer is called. */
  listen(listener: (change: WatchEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #directory(path: string): string {
    const { path: real, node } = this.at(path, true);
    if (node.type !== "directory") throw new ApiError("not_a_directory");
    return real;
  }

  #makeParents(real: string): void {
    const above = parentOf(real);
    const there = this.#nodes.get(above);
    if (there && there.type !== "directory") throw new ApiError("not_a_directory");
    if (!there) this.put(above, { type: "directory", mode: 0o755, modifiedAt: Date.now() });
  }

  #drop(real: string): void {
    this.#nodes.delete(real);
    this.#tell({ event: "remove", path: real });
  }

  #tell(change: WatchEvent): void {
    for (const listener of this.#listeners) listener(change);
  }

  #resolve(path: string, { follows, mayMiss = false }: Resolve): string {
    const parts = path.split("/");
    const at: string[] = [];
    for (let links = 0; parts.length > 0;) {
      const part = parts.shift()!;
      if (part === "" || part === ".") continue;
      if (part === "..") {
        at.pop();
        continue;
      }
      const node = this.#nodes.get(`/${[...at, part].join("/")}`);
      const isLast = parts.every((later) => later === "");
      if (node?.type === "symlink" && (!isLast || follows)) {
        if (++links > MAX_LINKS) throw new ApiError("file_not_found");
        if (node.target.startsWith("/")) at.length = 0;
        parts.unshift(...node.target.split("/"));
        continue;
      }
      if (!isLast && node && node.type !== "directory") throw new ApiError("not_a_directory");
      if (!isLast && !node && !mayMiss) throw new ApiError("file_not_found");
      at.push(part);
    }
    return `/${at.join("/")}`;
  }
}

/** What there is before anything was written. */
const IMAGE: [string, FakeNode][] = [
  ...["/", "/etc", "/root", "/tmp"].map((path): [string, FakeNode] => [
    path,
    { type: "directory", mode: path === "/tmp" ? 0o1777 : 0o755, modifiedAt: 0 },
  ]),
  ["/etc/os-release", { type: "file", bytes: new TextEncoder().encode("ID=fake\n"), mode: 0o644, modifiedAt: 0 }],
];

export const join = (directory: string, name: string) => (directory === "/" ? `/${name}` : `${directory}/${name}`);
export const parentOf = (path: string) => path.slice(0, path.lastIndexOf("/")) || "/";

/** The path without `.`, `..` and slashes too many. */
export function plain(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

function infoOf(path: string, node: FakeNode): FileInfo {
  return fileInfo(path, {
    mode: TYPE_BITS[node.type] | node.mode,
    size: BigInt(node.type === "file" ? node.bytes.length : node.type === "symlink" ? node.target.length : 4096),
    ...timeOf(BigInt(node.modifiedAt) * 1_000_000n),
    owner: "root",
    group: "root",
    target: node.type === "symlink" ? node.target : undefined,
  });
}
