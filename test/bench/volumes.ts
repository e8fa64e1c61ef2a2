import type { VolumeCommit, VolumeReload } from "../../src/contract/volume-mount.ts";
import { Instance, type RuntimeName } from "../e2e/instance.ts";
import { JoinedHost } from "../e2e/second-host.ts";
import { BenchClient } from "./client.ts";
import { percentile, timed, type Row } from "./report.ts";

const MIB = 1_048_576;
/** What the commit of one changed MiB may send, and what a look whether anything is new may take. */
const MAX_SENT_MIB = 1.2;
const MAX_RELOAD_MS = 100;
const SMALL_FILES = 100_000;

interface Answer<Item> {
  data: Item[];
}

/** Volumes of sandboxes on a host: what goes over its wire, and how long it takes. */
export async function benchVolumes(runtime: RuntimeName, quick: boolean, add: (row: Row) => void): Promise<void> {
  const instance = await Instance.start(runtime);
  const ends: (() => Promise<void>)[] = [() => instance.remove()];
  try {
    const [own] = (await instance.call<Answer<{ host_id: string }>>("GET", "/hosts")).data;
    const host = await JoinedHost.join(instance);
    ends.push(() => host.remove());
    await instance.call("DELETE", `/hosts/${own!.host_id}`);
    const bench = new VolumesBench({ instance, host, quick, add });
    await bench.large();
    await bench.small();
  } finally {
    for (const end of ends.toReversed()) await end().catch((error: unknown) => console.error(error));
  }
}

interface VolumesBenchOptions {
  instance: Instance;
  host: JoinedHost;
  quick: boolean;
  add(row: Row): void;
}

class VolumesBench {
  readonly #options: VolumesBenchOptions;
  readonly #client: BenchClient;

  constructor(options: VolumesBenchOptions) {
    this.#options = options;
    this.#client = new BenchClient(options.instance);
  }

  /** A large volume of which one MiB changes. */
  async large(): Promise<void> {
    const { host, quick, add } = this.#options;
    const mib = quick ? 128 : 1024;
    const volumeId = await this.#volume("large");
    const sandboxId = await this.#create(volumeId);
    const fill = `for i in $(seq ${mib / 16}); do head -c ${16 * MIB} /dev/urandom > /data/$i; done; head -c ${MIB} /dev/urandom > /data/one`;
    await this.#client.exec(sandboxId, ["sh", "-c", fill]);
    const first = await timed(() => this.#commit(sandboxId));
    add({ what: `volume: first commit of ${mib} MiB`, unit: "MB/s", ours: (mib * MIB) / 1e3 / first });
    const [sent, commits, reloads]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < (quick ? 3 : 9); round++) {
      await this.#client.exec(sandboxId, ["sh", "-c", `head -c ${MIB} /dev/urandom > /data/one`]);
      sent.push(await host.proxy.during(async () => commits.push(await timed(() => this.#commit(sandboxId)))));
      reloads.push(await timed(() => this.#reload(sandboxId)));
    }
    add({
      what: `volume: sent for 1 MiB changed of ${mib} MiB, at most`,
      unit: "MiB",
      ours: Math.max(...sent) / MIB,
      engine: MAX_SENT_MIB,
      target: { atMost: 1 },
    });
    add({ what: "volume: that commit, p50", unit: "ms", ours: percentile(commits, 0.5) });
    add({
      what: "volume: reload of what has not changed, p50",
      unit: "ms",
      ours: percentile(reloads, 0.5),
      engine: MAX_RELOAD_MS,
      target: { atMost: 1 },
    });
    await this.#client.run("DELETE", `/sandboxes/${sandboxId}`);
    const again = await timed(() => this.#create(volumeId));
    add({ what: `create with a volume of ${mib} MiB that the host has, to the first exec`, unit: "ms", ours: again });
  }

  /** A volume of many small files. */
  async small(): Promise<void> {
    const { quick, add } = this.#options;
    const count = quick ? SMALL_FILES / 20 : SMALL_FILES;
    const volumeId = await this.#volume("small");
    const sandboxId = await this.#create(volumeId);
    const perFolder = 1000;
    const fill =
      `import os\nfor d in range(${count / perFolder}):\n os.mkdir(f'/data/{d}')\n` +
      ` for f in range(${perFolder}):\n  open(f'/data/{d}/{f}','w').write(f'{d} {f} '*40)`;
    await this.#client.exec(sandboxId, ["python3", "-c", fill]);
    add({
      what: `volume: first commit of ${count} files`,
      unit: "per s",
      ours: (count * 1000) / (await timed(() => this.#commit(sandboxId))),
    });
    await this.#client.exec(sandboxId, ["sh", "-c", "echo new > /data/0/0"]);
    add({ what: "volume: commit of one of them", unit: "ms", ours: await timed(() => this.#commit(sandboxId)) });
    add({ what: "volume: reload of them", unit: "ms", ours: await timed(() => this.#reload(sandboxId)) });
    await this.#client.run("DELETE", `/sandboxes/${sandboxId}`);
    add({
      what: "create with all of them, to the first exec",
      unit: "ms",
      ours: await timed(() => this.#create(volumeId)),
    });
  }

  async #volume(name: string): Promise<string> {
    return (await this.#client.json<{ volume_id: string }>("POST", "/volumes", { name })).volume_id;
  }

  async #create(volumeId: string): Promise<string> {
    const body = { timeout: 3600, volumes: { "/data": { volume_id: volumeId } } };
    const { sandbox_id } = await this.#client.json<{ sandbox_id: string }>("POST", "/sandboxes", body);
    await this.#client.exec(sandbox_id, ["true"]);
    return sandbox_id;
  }

  #commit(sandboxId: string): Promise<Answer<VolumeCommit>> {
    return this.#client.json("POST", `/sandboxes/${sandboxId}/volumes/commit`, {});
  }

  #reload(sandboxId: string): Promise<Answer<VolumeReload>> {
    return this.#client.json("POST", `/sandboxes/${sandboxId}/volumes/reload`, {});
  }
}
