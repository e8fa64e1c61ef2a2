import { spawn } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { finished } from "node:stream/promises";
import { randomBytes } from "node:crypto";
import { DEV_KEY, Instance, type RuntimeName } from "../e2e/instance.ts";
import { BenchClient } from "./client.ts";
import type { EngineCli } from "./engine.ts";
import { percentile, timed, type Row } from "./report.ts";

const MIB = 1_048_576;
const FILES = 1000;
const FILE_BYTES = 4096;
/** What a look at a file may take, through all of Sandbar. */
const MAX_LOOK_MS = 10;

export interface FilesBenchOptions {
  runtime: RuntimeName;
  /** What it is compared with, where there is an engine. */
  engine: EngineCli | undefined;
  quick: boolean;
  add(row: Row): void;
}

/** Files in and out of a sandbox through the whole of Sandbar, by curl, beside `docker cp` on the same engine, by turns. */
export async function benchFiles(options: FilesBenchOptions): Promise<void> {
  const instance = await Instance.start(options.runtime);
  const folder = mkdtempSync(join(tmpdir(), "sandbar-bench-"));
  try {
    const client = new BenchClient(instance);
    const { sandbox_id } = await client.json<{ sandbox_id: string }>("POST", "/sandboxes", { timeout: 3600 });
    await client.exec(sandbox_id, ["true"]);
    const bench = new FilesBench(instance, sandbox_id, folder, options);
    await bench.looks();
    // Before the disk has large files to write back.
    await bench.small();
    await bench.large();
  } finally {
    rmSync(folder, { recursive: true });
    await instance.remove();
  }
}

class FilesBench {
  readonly #client: BenchClient;
  readonly #base: string;
  readonly #url: string;
  readonly #folder: string;
  readonly #options: FilesBenchOptions;

  constructor(instance: Instance, sandboxId: string, folder: string, options: FilesBenchOptions) {
    this.#client = new BenchClient(instance);
    this.#base = `/sandboxes/${sandboxId}/files`;
    this.#url = `${instance.url}/v1${this.#base}`;
    this.#folder = folder;
    this.#options = options;
  }

  /** What is at a path, and what is in a directory. */
  async looks(): Promise<void> {
    const { quick, add } = this.#options;
    const [stats, lists]: [number[], number[]] = [[], []];
    for (let round = -5; round < (quick ? 50 : 300); round++) {
      const stat = await timed(() => this.#client.json("GET", `${this.#base}/stat?path=/etc/passwd`));
      const list = await timed(() => this.#client.json("GET", `${this.#base}/list?path=/etc`));
      if (round < 0) continue;
      stats.push(stat);
      lists.push(list);
    }
    const limit = { unit: "ms", engine: MAX_LOOK_MS, target: { atMost: 1 } } as const;
    add({ what: "stat, p50, beside the limit", ours: percentile(stats, 0.5), ...limit });
    add({ what: "list of /etc, p50, beside the limit", ours: percentile(lists, 0.5), ...limit });
  }

  /** Many small files at once, as a tar. */
  async small(): Promise<void> {
    const { quick, engine, add } = this.#options;
    const source = join(this.#folder, "small");
    mkdirSync(source);
    for (let index = 0; index < FILES; index++) writeFileSync(join(source, `file-${index}`), randomBytes(FILE_BYTES));
    const [ins, outs, engineIns, engineOuts]: [number[], number[], number[], number[]] = [[], [], [], []];
    for (let round = 0; round < (quick ? 3 : 9); round++) {
      const back = join(this.#folder, `back-${round}`);
      mkdirSync(back);
      ins.push(await timed(() => this.#pack(source, `/archive?path=/srv/small-${round}`)));
      outs.push(await timed(() => this.#unpack(`/archive?path=/srv/small-${round}`, back)));
      if (!engine) continue;
      engineIns.push(await timed(() => engine.copyIn(source, `/srv/small-${round}`)));
      engineOuts.push(await timed(() => engine.copyOut(`/srv/small-${round}`, `${back}/engine`)));
    }
    const rate = (times: number[]) => (times.length > 0 ? (FILES * 1000) / percentile(times, 0.5) : undefined);
    const row = { unit: "per s", target: { atLeast: 5 } } as const;
    add({ what: `files of 4 KiB, ${FILES} in by archive`, ours: rate(ins)!, engine: rate(engineIns), ...row });
    add({ what: `files of 4 KiB, ${FILES} out by archive`, ours: rate(outs)!, engine: rate(engineOuts), ...row });
  }

  /** One large file, from a disk and to it. */
  async large(): Promise<void> {
    const { quick, engine, add } = this.#options;
    const mib = quick ? 128 : 1024;
    const [source, target] = [join(this.#folder, "large"), join(this.#folder, "back")];
    await writeRandom(source, mib);
    const [puts, gets, enginePuts, engineGets]: [number[], number[], number[], number[]] = [[], [], [], []];
    for (let round = 0; round < 3; round++) {
      puts.push(await timed(() => this.#put(source, "?path=/srv/large")));
      gets.push(await timed(() => this.#get("?path=/srv/large", target)));
      if (statSync(target).size !== mib * MIB) throw new Error("bytes are missing");
      if (!engine) continue;
      enginePuts.push(await timed(() => engine.copyIn(source, "/srv/large")));
      engineGets.push(await timed(() => engine.copyOut("/srv/large", target)));
    }
    const rate = (times: number[]) => (times.length > 0 ? (mib * MIB) / 1e3 / percentile(times, 0.5) : undefined);
    const row = { unit: "MB/s", target: { atLeast: 1 } } as const;
    add({ what: `PUT of ${mib} MiB`, ours: rate(puts)!, engine: rate(enginePuts), ...row });
    add({ what: `GET of ${mib} MiB`, ours: rate(gets)!, engine: rate(engineGets), ...row });
  }

  #put(file: string, query: string): Promise<void> {
    return shell(`${this.#curl(query)} -T ${file}`);
  }

  #get(query: string, file: string): Promise<void> {
    return shell(`${this.#curl(query)} -o ${file}`);
  }

  #pack(folder: string, query: string): Promise<void> {
    return shell(`tar -C ${folder} -c . | ${this.#curl(query)} -H content-type:application/x-tar -T -`);
  }

  #unpack(query: string, folder: string): Promise<void> {
    return shell(`${this.#curl(query)} | tar -C ${folder} -x`);
  }

  /** A program of its own, as `docker cp` is. */
  #curl(query: string): string {
    return `curl -sSf -H 'authorization: Bearer ${DEV_KEY}' '${this.#url}${query}'`;
  }
}

async function shell(script: string): Promise<void> {
  const child = spawn("bash", ["-o", "pipefail", "-c", script], { stdio: ["ignore", "ignore", "inherit"] });
  const [code] = (await once(child, "exit")) as [number];
  if (code !== 0) throw new Error(`${script.replace(DEV_KEY, "…")} ended with ${code}`);
}

async function writeRandom(path: string, mib: number): Promise<void> {
  const file = createWriteStream(path);
  for (let index = 0; index < mib; index++) if (!file.write(randomBytes(MIB))) await once(file, "drain");
  file.end();
  await finished(file);
}
