import { IN, type Inotify, type RawEvent } from "../linux/inotify.ts";
import type { Change, ChangeOrder } from "./change-order.ts";
import type { Teller } from "./teller.ts";
import { DirectoryTree, type Directory } from "./tree.ts";

export interface TreeOptions {
  root: number;
  /** Of the directory, relative to the root. */
  topPath: string;
  recursive: boolean;
  inotify: Inotify;
  order: ChangeOrder;
  teller: Teller;
  /** As the client names what is at a path below the directory; of the empty one, the directory itself. */
  toClient(path: string): string;
  /** Reads what the kernel has to tell, to its end. */
  readAll(): void;
}

/** Takes what the kernel tells of the directories of a watch for what happened in them. */
export class TreeChanges {
  readonly #options: TreeOptions;
  readonly #tree: DirectoryTree;

  constructor(options: TreeOptions) {
    this.#options = options;
    this.#tree = new DirectoryTree(options.root, options.topPath, options.inotify);
  }

  /** Watches what is there; false where the directory itself cannot be opened. */
  begin(): boolean {
    const found = this.#tree.watch(this.#tree.top);
    if (found && this.#options.recursive) this.#explore(this.#tree.top, found, false);
    return found !== undefined;
  }

  /** Whether the number is that of the directory itself. */
  isTop(wd: number): boolean {
    return this.#tree.find(wd) === this.#tree.top;
  }

  /** `now`: of what has just been read. */
  handle({ event, movedTo, sequence }: Change, now: number): void {
    const directory = this.#tree.find(event.wd);
    const isDirectory = (event.mask & IN.ISDIR) !== 0;
    if (movedTo) return this.#moved(directory, event, movedTo, sequence);
    if (!directory) return;
    if (event.name === "") {
      if (event.mask & IN.UNMOUNT && directory.parent) this.#tree.drop(directory);
      else if (event.mask & IN.ATTRIB && !directory.parent) this.#options.teller.modify(this.#path(directory), now);
      return;
    }
    if (event.mask & (IN.CREATE | IN.MOVED_TO)) this.#appeared(directory, event.name, isDirectory, sequence);
    else if (event.mask & (IN.DELETE | IN.MOVED_FROM)) this.#disappeared(directory, event.name);
    else if (event.mask & (IN.MODIFY | IN.ATTRIB)) {
      this.#options.teller.modify(this.#path(directory, event.name), now);
    }
  }

  #appeared(directory: Directory, name: string, isDirectory: boolean, sequence: number): void {
    if (wasSeen(directory, name, sequence)) return;
    this.#options.teller.create(this.#path(directory, name));
    if (isDirectory) this.#enter(directory, name);
  }

  #disappeared(directory: Directory, name: string): void {
    directory.seen?.names.delete(name);
    const child = directory.children.get(name);
    if (child) this.#tree.drop(child);
    this.#options.teller.remove(this.#path(directory, name));
  }

  #moved(from: Directory | undefined, { name }: RawEvent, to: RawEvent, sequence: number): void {
    const target = this.#tree.find(to.wd);
    const isDirectory = (to.mask & IN.ISDIR) !== 0;
    if (!target) {
      if (from) this.#disappeared(from, name);
      return;
    }
    if (wasSeen(target, to.name, sequence)) {
      if (from) this.#disappeared(from, name);
      return;
    }
    if (!from) {
      const replaced = target.children.get(to.name);
      if (replaced) this.#tree.drop(replaced);
      this.#options.teller.create(this.#path(target, to.name));
      if (isDirectory) this.#enter(target, to.name);
      return;
    }
    from.seen?.names.delete(name);
    this.#options.teller.rename(this.#path(from, name), this.#path(target, to.name));
    if (!isDirectory || !this.#options.recursive) return;
    const child = from.children.get(name);
    if (child) this.#tree.move(child, target, to.name);
    else this.#enter(target, to.name);
    for (const unopened of this.#tree.unopened()) this.#explore(unopened, this.#tree.watch(unopened) ?? [], true);
  }

  /** A directory is new: watches it, and tells what is in it already. */
  #enter(parent: Directory, name: string): void {
    if (!this.#options.recursive) return;
    const directory = this.#tree.child(parent, name);
    this.#explore(directory, this.#tree.watch(directory) ?? [], true);
  }

  /** Goes into all that was found in a directory. */
  #explore(first: Directory, foundFirst: { name: string; isDirectory: boolean }[], isTold: boolean): void {
    const left = [{ directory: first, found: foundFirst }];
    const looked: { directory: Directory; names: Set<string> }[] = [];
    for (let next = left.pop(); next; next = left.pop()) {
      const { directory, found } = next;
      if (isTold && found.length > 0) {
        looked.push({ directory, names: new Set(found.map(({ name }) => name)) });
        for (const { name } of found) this.#options.teller.create(this.#path(directory, name));
      }
      for (const { name, isDirectory } of found) {
        if (!isDirectory) continue;
        const child = this.#tree.child(directory, name);
        left.push({ directory: child, found: this.#tree.watch(child) ?? [] });
      }
    }
    if (looked.length === 0) return;
    // The same may have been told to the queue meanwhile.
    this.#options.readAll();
    for (const { directory, names } of looked) directory.seen = { names, until: this.#options.order.last };
  }

  #path(directory: Directory, name?: string): string {
    const above = directory.path;
    return this.#options.toClient(name === undefined ? above : above === "" ? name : `${above}/${name}`);
  }
}

/** Whether a look into the directory has told of the name already. */
function wasSeen(directory: Directory, name: string, sequence: number): boolean {
  if (directory.seen && sequence > directory.seen.until) directory.seen = undefined;
  return directory.seen?.names.delete(name) ?? false;
}
