import { afterAll, beforeAll } from "vitest";
import { mkdtempSync, rmSync } from "node:fs";
import type { FileInfo, FileList } from "../../src/contract/file.ts";
import { openEmbeddedRuntime } from "../../src/host/embedded/runtime.ts";
import type { Runtime } from "../../src/host/runtime.ts";
import { DockerHost, IMAGE, makeEmptyImage, makeImage, noEngine, removeImages } from "./docker-host.ts";
import { SignedHost, text } from "./signed-host.ts";

const EMPTY = `sandbar-tree:empty-${process.pid}`;
const NOBODY = `sandbar-tree:nobody-${process.pid}`;

/** Every way to the files of a sandbox: whose container, and whether this machine may look into it. */
export const BOXES = {
  "docker, seen from the host": { image: IMAGE, isSeen: true },
  "docker, by scripts": { image: IMAGE, isSeen: false },
  "docker, without a single program": { image: EMPTY, isSeen: true },
  "docker, without a single program, by scripts": { image: EMPTY, isSeen: false },
  "embedded, seen from the host": { image: undefined, isSeen: true },
  "embedded, by scripts": { image: undefined, isSeen: false },
} as const;
export type BoxName = keyof typeof BOXES;

/** One sandbox on a host of its own. */
export class TreeBox {
  host!: SignedHost;
  box!: string;
  readonly isEmpty: boolean;
  /** How many processes were started in it. */
  spawned = 0;
  /** How many bytes went to their input. */
  piped = 0;
  readonly #image: string | undefined;
  readonly #isSeen: boolean;
  #dataDir!: string;
  #docker: DockerHost | undefined;

  constructor(image: string | undefined, isSeen: boolean) {
    this.#image = image;
    this.#isSeen = isSeen;
    this.isEmpty = image === EMPTY;
  }

  async open(): Promise<void> {
    this.#dataDir = mkdtempSync("/tmp/sandbar-tree-");
    if (this.#image === EMPTY) makeEmptyImage(EMPTY);
    if (this.#image === NOBODY) makeImage(NOBODY, "USER 65534:65534");
    if (this.#image !== undefined) this.#docker = await DockerHost.open();
    const runtime = this.#docker?.runtime ?? (await openEmbeddedRuntime({ dataDir: this.#dataDir }));
    watched(runtime, {
      isSeen: this.#isSeen,
      onSpawn: () => (this.spawned += 1),
      onInput: (bytes) => (this.piped += bytes),
    });
    this.host = await SignedHost.start(runtime, { dataDir: this.#dataDir });
    this.box = await this.host.sandbox({ image: this.#image ?? runtime.defaultImage });
    if (this.isEmpty) {
      for (const args of [
        ["mkdir", "/tools", "/tmp", "/etc"],
        ["--install", "-s", "/tools"],
      ])
        await this.host.exec(this.box, ["/.sandbar/busybox", ...args]);
    }
  }

  async close(): Promise<void> {
    await this.host?.daemon.close({ stopContainers: true });
    await this.#docker?.close();
    rmSync(this.#dataDir, { recursive: true, force: true });
    for (const made of [EMPTY, NOBODY]) if (this.#image === made) removeImages(made);
  }

  /** What a script says inside. */
  async inside(script: string): Promise<string> {
    const command = this.isEmpty ? ["/.sandbar/busybox", "sh", "-c", script] : ["sh", "-c", script];
    const env = this.isEmpty ? { PATH: "/tools" } : {};
    return text((await this.host.exec(this.box, command, { env }, 50_000)).output!.stdout);
  }

  /** The file's info, or the code of the error. */
  async stat(path: string): Promise<FileInfo | string> {
    return this.#get<FileInfo>("stat", { path });
  }

  async list(path: string, more: Record<string, string> = {}): Promise<FileList | string> {
    return this.#get<FileList>("list", { path, ...more });
  }

  /** The names, relative to the path, or the code of the error. */
  async names(path: string, more: Record<string, string> = {}): Promise<string[] | string> {
    const list = await this.list(path, more);
    return typeof list === "string" ? list : list.data.map((info) => info.path.slice(path.length + 1));
  }

  async make(path: string, parents?: boolean): Promise<FileInfo | string> {
    const answer = await this.host.send("POST", `${this.box}/files/directories`, { path, parents });
    return answer.status === 200 ? (answer.json as unknown as FileInfo) : String(answer.json.code);
  }

  /** `done`, or the code of the error. */
  async move(from: string, to: string): Promise<string> {
    const answer = await this.host.send("POST", `${this.box}/files/move`, { from, to });
    return answer.status === 204 ? "done" : String(answer.json.code);
  }

  async remove(path: string, recursive = false): Promise<string> {
    const query = new URLSearchParams({ path, ...(recursive && { recursive: "true" }) });
    const answer = await this.host.call("DELETE", `${this.box}/files?${query}`);
    return answer.status === 204 ? "done" : String(answer.json.code);
  }

  async #get<T>(what: string, query: Record<string, string>): Promise<T | string> {
    const answer = await this.host.call("GET", `${this.box}/files/${what}?${new URLSearchParams(query)}`);
    return answer.status === 200 ? (answer.json as T) : String(answer.json.code);
  }
}

/** A sandbox for the tests of a file; what it is called says which one. */
export function treeBox(name: BoxName): TreeBox {
  return shared(new TreeBox(BOXES[name].image, BOXES[name].isSeen));
}

/** One whose processes are not root. */
export const nobodysBox = () => shared(new TreeBox(NOBODY, true));

function shared(box: TreeBox): TreeBox {
  beforeAll(() => box.open());
  afterAll(() => box.close());
  return box;
}

/** Whether there is what a sandbox of this name needs. */
export const canRun = (name: BoxName) => BOXES[name].image === undefined || noEngine === undefined;

interface Watch {
  isSeen: boolean;
  onSpawn: () => void;
  onInput: (bytes: number) => void;
}

/** Counts what is started in the containers, and what goes in there, and may let nobody on this machine look into them. */
function watched(runtime: Runtime, { isSeen, onSpawn, onInput }: Watch): void {
  const start = runtime.start.bind(runtime);
  runtime.start = async (spec) => {
    const container = await start(spec);
    const spawn = container.spawn.bind(container);
    container.spawn = async (process) => {
      onSpawn();
      const spawned = await spawn(process);
      const { stdin } = spawned;
      const write = stdin.write.bind(stdin) as (chunk: Buffer) => boolean;
      stdin.write = (chunk: Buffer) => {
        onInput(chunk.length);
        return write(chunk);
      };
      return spawned;
    };
    return isSeen ? container : Object.assign(container, { seesEveryFile: () => false });
  };
}
