import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { snapshot, type ImageView } from "../e2e/image-view.ts";
import { Instance, type RuntimeName } from "../e2e/instance.ts";
import { JoinedHost, missingForTwoHosts } from "../e2e/second-host.ts";
import { SecondEngine } from "../e2e/second-engine.ts";
import { BenchClient } from "./client.ts";
import { ReferenceRegistry } from "./reference-registry.ts";
import { percentile, timed, type Row } from "./report.ts";

const BASE = "debian:bookworm-slim";
const MIB = 1_048_576;
const KIB = 1024;
/** What a snapshot of nothing new may send. */
const MAX_UNCHANGED_KIB = 64;
/** What a snapshot may start later than its base. */
const MAX_LATER_MS = 50;
const FORKS = 10;
const run = promisify(execFile);

/** Half of it does not compress; the other half does, as source code would. */
const change = (mib: number) =>
  `head -c ${(mib / 2) * MIB} /dev/urandom > /srv/random && ` +
  `head -c ${(mib / 8) * MIB} /dev/urandom | od -An -tx1 -v | head -c ${(mib / 2) * MIB} > /srv/text && sync`;

/** Snapshots of sandboxes on a host, beside `docker commit` and `docker push` to a registry on this machine, by turns. */
export async function benchSnapshots(runtime: RuntimeName, quick: boolean, add: (row: Row) => void): Promise<void> {
  const instance = await Instance.start(runtime);
  const ends: (() => Promise<void>)[] = [() => instance.remove()];
  try {
    const [own] = (await instance.call<{ data: { host_id: string }[] }>("GET", "/hosts")).data;
    const host = await JoinedHost.join(instance);
    ends.push(() => host.remove());
    await instance.call("DELETE", `/hosts/${own!.host_id}`);
    const reference = await ReferenceRegistry.start(BASE).catch((error: unknown) => console.error(String(error)));
    if (reference) ends.push(() => reference.remove());
    const bench = new SnapshotBench({ instance, host, reference: reference ?? undefined, quick, add });
    const large = await bench.ofChange();
    await bench.ofNothing();
    await bench.starts(large);
    await bench.forks();
    const missing = missingForTwoHosts(runtime);
    if (missing) return console.error(`No snapshot is pulled: ${missing}.`);
    const engine = runtime === "docker" ? await SecondEngine.start() : undefined;
    ends.push(async () => engine?.remove());
    const second = await JoinedHost.join(instance, engine);
    ends.push(() => second.remove());
    await bench.pulled(large);
  } finally {
    for (const end of ends.toReversed()) await end().catch((error: unknown) => console.error(error));
  }
}

interface SnapshotBenchOptions {
  instance: Instance;
  host: JoinedHost;
  reference: ReferenceRegistry | undefined;
  quick: boolean;
  add(row: Row): void;
}

class SnapshotBench {
  readonly #options: SnapshotBenchOptions;
  readonly #client: BenchClient;

  constructor(options: SnapshotBenchOptions) {
    this.#options = options;
    this.#client = new BenchClient(options.instance);
  }

  /** Of a change of 100 MiB: how long, and how much is sent. Answers the last image. */
  async ofChange(): Promise<ImageView> {
    const { instance, host, reference, quick, add } = this.#options;
    const mib = quick ? 16 : 100;
    // So that the base is in the registry.
    const first = await this.#create({});
    await snapshot(instance, first);
    await this.#end(first);
    const [ours, engines, sent, engineSent]: [number[], number[], number[], number[]] = [[], [], [], []];
    let image!: ImageView;
    for (let round = 0; round < (quick ? 3 : 5); round++) {
      const sandboxId = await this.#create({});
      await this.#client.exec(sandboxId, ["sh", "-c", change(mib)]);
      sent.push(
        await host.proxy.during(async () => {
          ours.push(await timed(async () => (image = await snapshot(instance, sandboxId))));
        }),
      );
      await this.#end(sandboxId);
      if (!reference) continue;
      const { stdout } = await run("docker", ["run", "-d", BASE, "sleep", "infinity"]);
      const container = stdout.trim();
      await run("docker", ["exec", container, "sh", "-c", change(mib)]);
      const { took, sentBytes } = await reference.snapshot(container, `round-${round}`);
      engines.push(took);
      engineSent.push(sentBytes);
      await run("docker", ["rm", "-f", container]);
    }
    const half = (times: number[]) => (times.length > 0 ? percentile(times, 0.5) : undefined);
    const engine = half(engines);
    add({ what: `snapshot of ${mib} MiB, p50`, unit: "ms", ours: half(ours)!, engine, target: { atMost: 1.5 } });
    const engineMib = half(engineSent.map((bytes) => bytes / MIB));
    const oursMib = half(sent.map((bytes) => bytes / MIB))!;
    add({ what: "sent for it", unit: "MiB", ours: oursMib, engine: engineMib, target: { atMost: 1.1 } });
    return image;
  }

  /** Of a sandbox in which nothing has changed since the last. */
  async ofNothing(): Promise<void> {
    const { instance, host, add } = this.#options;
    const sandboxId = await this.#create({});
    await this.#client.exec(sandboxId, ["sh", "-c", change(8)]);
    await snapshot(instance, sandboxId);
    let took = 0;
    const sent = await host.proxy.during(async () => {
      took = await timed(() => snapshot(instance, sandboxId));
    });
    await this.#end(sandboxId);
    const target = { atMost: 1 };
    const engine = MAX_UNCHANGED_KIB;
    add({ what: "sent for a second one of the same, at most", unit: "KiB", ours: sent / KIB, engine, target });
    add({ what: "a second one of the same", unit: "ms", ours: took });
  }

  /** From the create to the end of the first exec, from the image and from its base by turns. */
  async starts({ image_id }: ImageView): Promise<void> {
    const { quick, add } = this.#options;
    const [ofImage, ofBase]: [number[], number[]] = [[], []];
    for (let round = -1; round < (quick ? 6 : 25); round++) {
      for (const [times, create] of [
        [ofImage, { image: image_id }],
        [ofBase, {}],
      ] as const) {
        let sandboxId = "";
        const took = await timed(async () => (sandboxId = await this.#create(create)));
        // The first warms up.
        if (round >= 0) times.push(took);
        await this.#end(sandboxId);
      }
    }
    add({
      what: "create from a snapshot to the end of the first exec, p50, beside the base's",
      unit: "ms",
      ours: percentile(ofImage, 0.5),
      engine: percentile(ofBase, 0.5),
      target: { atMostMore: MAX_LATER_MS },
    });
  }

  async forks(): Promise<void> {
    const { instance, quick, add } = this.#options;
    const times: number[] = [];
    const source = await this.#create({});
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      await this.#client.exec(source, ["sh", "-c", change(8)]);
      let forks: string[] = [];
      times.push(
        await timed(async () => {
          const body = { count: FORKS };
          const path = `/sandboxes/${source}/fork`;
          forks = (await instance.call<{ data: { sandbox_id: string }[] }>("POST", path, body)).data.map(
            ({ sandbox_id }) => sandbox_id,
          );
          await Promise.all(forks.map((sandboxId) => this.#client.exec(sandboxId, ["true"])));
        }),
      );
      await Promise.all(forks.map((sandboxId) => this.#end(sandboxId)));
    }
    await this.#end(source);
    const what = `fork of ${FORKS} with a change of 8 MiB, to the end of an exec in each, p50`;
    add({ what, unit: "ms", ours: percentile(times, 0.5) });
  }

  /** On a host that has nothing of the image, and then of one of which it has the base. The first host is not there any more. */
  async pulled(image: ImageView): Promise<void> {
    const { instance, host, quick, add } = this.#options;
    const source = await this.#create({});
    await this.#client.exec(source, ["sh", "-c", change(8)]);
    const small = await snapshot(instance, source);
    await this.#end(source);
    await instance.call("DELETE", `/hosts/${host.hostId}`);
    for (const [what, { image_id, size }] of [
      [`a change of ${quick ? 16 : 100} MiB and its base`, image],
      ["a change of 8 MiB", small],
    ] as const) {
      let sandboxId = "";
      const ours = await timed(async () => (sandboxId = await this.#create({ image: image_id })));
      await this.#end(sandboxId);
      const mib = Math.round((size ?? 0) / MIB);
      add({ what: `create to the first exec where ${what} must be pulled (image: ${mib} MiB)`, unit: "ms", ours });
    }
  }

  async #create(create: object): Promise<string> {
    const body = { timeout: 3600, ...create };
    const { sandbox_id } = await this.#client.json<{ sandbox_id: string }>("POST", "/sandboxes", body);
    await this.#client.exec(sandbox_id, ["true"]);
    return sandbox_id;
  }

  async #end(sandboxId: string): Promise<void> {
    (await this.#client.open("DELETE", `/sandboxes/${sandboxId}`)).resume();
  }
}
