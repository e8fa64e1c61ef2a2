import { closeSync, fstatSync } from "node:fs";
import { ApiError } from "../../contract/errors.ts";
import type { WatchEvent } from "../../contract/file.ts";
import { IN, Inotify } from "../linux/inotify.ts";
import { ChangeOrder } from "./change-order.ts";
import { FileChanges } from "./file-changes.ts";
import { findPlace, isAt, withDirectory, withPlace, type Place } from "./place.ts";
import { Teller } from "./teller.ts";
import { TreeChanges } from "./tree-changes.ts";
import { DIRECTORY_MASK, LostTrack, watchDirectory } from "./tree.ts";

/** What tells that a directory is at its name no more. */
const NAME_MASK = IN.MOVED_FROM | IN.MOVED_TO | IN.CREATE | IN.DELETE | IN.MOVE_SELF | IN.ONLYDIR;
/** How many times as long as it took to look at everything anew it is not done again. */
const REBUILD_PAUSES = 10;
const REBUILD_PAUSE_MS = 100;
/** How long a watch rests for each event that it told at once: no sandbox keeps the daemon busier than that. */
const REST_MS = 0.05;
/** So few are told without a rest. */
const RESTLESS_EVENTS = 500;
/** What is taken of one watch before the others have their turn. */
const TURN_READS = 16;

export interface WatchOptions {
  /** The watch's to close. */
  root: number;
  path: string;
  recursive: boolean;
  /** The queue to be waited for is another one, or none. */
  onQueue(fd: number | undefined): void;
}

/** One path that is watched. Runs on the thread of the watches, and never waits. */
export class Watch {
  readonly #options: WatchOptions;
  readonly #teller = new Teller();
  readonly #order = new ChangeOrder();
  /** As the client wrote it, without what stands at its end. */
  readonly #asked: string;
  #inotify: Inotify | undefined;
  #place!: Place;
  #parentWd: number | undefined;
  #changes: TreeChanges | FileChanges | undefined;
  #rebuildAt = Infinity;
  /** When the queue is read again, of one that rests. */
  #wakeAt = Infinity;
  #mayRebuildAt = 0;

  /** Throws the file errors, and closes the root then. */
  constructor(options: WatchOptions) {
    this.#options = options;
    this.#asked = options.path.replace(/\/+$/, "");
    try {
      this.#begin();
    } catch (error) {
      if (error instanceof LostTrack) {
        this.#lose(performance.now());
        return;
      }
      this.close();
      throw error;
    }
  }

  /** When `work` must be called, if there is nothing to read before. */
  get dueAt(): number {
    if (this.#isResting) return Math.min(this.#wakeAt, this.#teller.dueAt);
    const changesDueAt = this.#changes instanceof FileChanges ? this.#changes.dueAt : Infinity;
    return Math.min(this.#order.dueAt, this.#teller.dueAt, this.#rebuildAt, changesDueAt);
  }

  /** Takes what there is; `isOver` when what was watched is gone. Throws what a client may see when it can go on no more. */
  work(now: number): { events: WatchEvent[]; isOver: boolean } {
    if (now >= this.#rebuildAt) return this.#rebuild(now);
    let isOver = false;
    try {
      isOver = this.#handleAll(now);
    } catch (error) {
      if (!(error instanceof LostTrack)) throw error;
      this.#lose(now);
    }
    if (isOver) this.#teller.remove(this.#toClient(""));
    const events = this.#teller.take(now, isOver);
    if (events.length > RESTLESS_EVENTS) this.#rest(now + events.length * REST_MS);
    return { events, isOver };
  }

  close(): void {
    this.#closeQueue();
    closeSync(this.#options.root);
  }

  /** What happens meanwhile waits in the kernel. */
  #rest(until: number): void {
    if (!this.#inotify) return;
    this.#wakeAt = until;
    this.#options.onQueue(undefined);
  }

  get #isResting(): boolean {
    return this.#wakeAt !== Infinity;
  }

  #handleAll(now: number): boolean {
    if (now >= this.#wakeAt) {
      this.#wakeAt = Infinity;
      this.#options.onQueue(this.#inotify!.fd);
    }
    // The other half of a rename may still wait in the kernel.
    if (this.#isResting) return false;
    for (let reads = 0; reads < TURN_READS && this.#read(now); reads++);
    for (let next = this.#order.next(now); next; next = this.#order.next(now)) {
      const { event, movedTo } = next;
      if (event.mask & IN.Q_OVERFLOW) throw new LostTrack();
      if (this.#isEnd(event.wd, event.mask, event.name)) return true;
      if (movedTo && this.#isEnd(movedTo.wd, movedTo.mask, movedTo.name)) return true;
      this.#changes?.handle(next, now);
    }
    return this.#changes instanceof FileChanges && this.#changes.isGone(now);
  }

  /** Whether the directory itself is there no more. */
  #isEnd(wd: number, mask: number, name: string): boolean {
    if (this.#changes instanceof FileChanges) return false;
    if (mask & IN.UNMOUNT && this.#changes?.isTop(wd)) return true;
    if (wd !== this.#parentWd || wd < 0) return false;
    return name === this.#place.name || (mask & (IN.MOVE_SELF | IN.UNMOUNT)) !== 0;
  }

  /** False when there is nothing more to be read. */
  #read(now: number): boolean {
    const events = this.#inotify?.read() ?? [];
    this.#order.push(events, now);
    if (this.#order.isFull) throw new LostTrack();
    return events.length > 0;
  }

  #begin(): void {
    const { root, path, recursive } = this.#options;
    this.#place = findPlace(root, path);
    const inotify = openQueue();
    this.#inotify = inotify;
    if (!this.#place.isDirectory) {
      this.#changes = this.#beginFile(inotify);
    } else {
      if (this.#place.parent !== undefined) {
        this.#parentWd = withDirectory(root, this.#place.parent, (fd) => watchDirectory(inotify, fd, NAME_MASK));
      }
      const changes = new TreeChanges({
        root,
        topPath: this.#place.path,
        recursive,
        inotify,
        order: this.#order,
        teller: this.#teller,
        toClient: (below) => this.#toClient(below),
        readAll: () => {
          while (this.#read(performance.now()));
        },
      });
      if (!changes.begin()) throw new ApiError("file_not_found");
      this.#changes = changes;
    }
    this.#options.onQueue(inotify.fd);
  }

  /** A file is watched in the directory that holds it: who saves one often puts another in its place. */
  #beginFile(inotify: Inotify): FileChanges {
    const { root } = this.#options;
    const { parent, path, name } = this.#place;
    return withDirectory(root, parent!, (directory) =>
      withPlace(root, path, 0, (file) => {
        const wd = watchDirectory(inotify, directory, DIRECTORY_MASK);
        const [within, stats] = [fstatSync(directory), fstatSync(file)];
        // One that is a mount of its own (/etc/hosts) is another than the directory tells of, and cannot be replaced.
        const ownWd = within.dev === stats.dev ? undefined : watchDirectory(inotify, file, IN.MODIFY | IN.ATTRIB);
        if (!isAt(root, this.#place, stats)) throw new ApiError("file_not_found");
        return new FileChanges({ wd, ownWd, name, teller: this.#teller, path: this.#toClient("") });
      }),
    );
  }

  #lose(now: number): void {
    this.#closeQueue();
    this.#rebuildAt = Math.max(now + REBUILD_PAUSE_MS, this.#mayRebuildAt);
  }

  #rebuild(now: number): { events: WatchEvent[]; isOver: boolean } {
    this.#rebuildAt = Infinity;
    let isOver = false;
    try {
      this.#begin();
      // Only now: whoever lists anew misses nothing of what comes behind.
      this.#teller.overflow();
    } catch (error) {
      if (error instanceof LostTrack) this.#lose(now);
      else if (error instanceof ApiError && error.code === "file_not_found") isOver = true;
      else throw error;
    }
    const end = performance.now();
    this.#mayRebuildAt = end + REBUILD_PAUSES * (end - now);
    if (isOver) this.#teller.remove(this.#toClient(""));
    return { events: this.#teller.take(now, isOver), isOver };
  }

  #closeQueue(): void {
    this.#order.clear();
    this.#changes = undefined;
    this.#parentWd = undefined;
    this.#wakeAt = Infinity;
    if (!this.#inotify) return;
    this.#options.onQueue(undefined);
    this.#inotify.close();
    this.#inotify = undefined;
  }

  /** Names that are not UTF-8 are shown with U+FFFD in the place of what is not. */
  #toClient(below: string): string {
    if (below === "") return this.#asked || "/";
    return `${this.#asked}/${Buffer.from(below, "latin1").toString("utf8")}`;
  }
}

function openQueue(): Inotify {
  try {
    return new Inotify();
  } catch (error) {
    throw new ApiError("at_capacity", {
      detail: "The host has as many watches open as it may (fs.inotify.max_user_instances).",
      retryAfter: 10,
      cause: error,
    });
  }
}
