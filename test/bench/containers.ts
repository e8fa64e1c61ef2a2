import { prepareContainers } from "../containers/prepare.ts";
import { RemoteBackend } from "../cloudflare/remote-backend.ts";
import { ContainerWorker } from "../cloudflare/container-worker.ts";
import { Instance } from "../e2e/instance.ts";
import { BenchClient } from "./client.ts";
import { percentile, timed, type Row } from "./report.ts";

/**
 * Sandboxes on Cloudflare Containers through the whole of Sandbar, beside a bare object that does the same with
 * `ctx.container` alone, by turns, on the same engine.
 */
export async function benchContainers(quick: boolean, add: (row: Row) => void): Promise<void> {
  const containers = await prepareContainers();
  if ("skipReason" in containers) {
    console.error(`Cloudflare Containers are not measured: ${containers.skipReason}.`);
    return;
  }
  const bare = await ContainerWorker.start(containers.env);
  const instance = await Instance.start("cloudflare");
  try {
    await measure(new BenchClient(instance), bare, quick, add);
  } finally {
    await Promise.all([instance.remove(), bare.stop()]);
  }
}

async function measure(client: BenchClient, bare: ContainerWorker, quick: boolean, add: (row: Row) => void) {
  const create = async () => (await client.json<{ sandbox_id: string }>("POST", "/sandboxes", {})).sandbox_id;
  const end = async (sandboxId: string) => void (await client.open("DELETE", `/sandboxes/${sandboxId}`)).resume();
  const bareExec = async (object: RemoteBackend) => {
    const { exitCode } = await object.json<{ exitCode: number }>({ method: "bareExec", args: [["true"]] });
    if (exitCode !== 0) throw new Error(`the bare exec ended with ${exitCode}`);
  };

  const [ours, platform]: [number[], number[]] = [[], []];
  let objects = 0;
  for (let round = 0; round < (quick ? 4 : 12); round++) {
    let sandboxId = "";
    ours.push(
      await timed(async () => {
        sandboxId = await create();
        await client.exec(sandboxId, ["true"]);
      }),
    );
    await end(sandboxId);
    const object = new RemoteBackend(bare.url, `bare-${objects++}`);
    platform.push(
      await timed(async () => {
        await object.json({ method: "bareStart", args: [] });
        await bareExec(object);
      }),
    );
    await object.json({ method: "bareDestroy", args: [] });
  }
  const half = (times: number[]) => percentile(times, 0.5);
  add({
    what: "create to the end of the first exec, p50",
    unit: "ms",
    ours: half(ours),
    engine: half(platform),
    target: { atMost: 1.2 },
  });

  const sandboxId = await create();
  await client.exec(sandboxId, ["true"]);
  const object = new RemoteBackend(bare.url, `bare-${objects++}`);
  await object.json({ method: "bareStart", args: [] });
  await bareExec(object);
  const [execs, bareExecs]: [number[], number[]] = [[], []];
  for (let round = 0; round < (quick ? 15 : 60); round++) {
    for (let index = 0; index < 5; index++) execs.push(await timed(() => client.exec(sandboxId, ["true"])));
    bareExecs.push(await timed(() => bareExec(object)));
  }
  add({ what: "exec `true`, p50", unit: "ms", ours: half(execs), engine: half(bareExecs), target: { atMost: 1.3 } });

  const [many, bareMany]: [number[], number[]] = [[], []];
  const atOnce = (run: () => Promise<unknown>) => timed(() => Promise.all(Array.from({ length: 20 }, run)));
  for (let round = 0; round < (quick ? 3 : 7); round++) {
    many.push(await atOnce(() => client.exec(sandboxId, ["true"])));
    if (round < 3) bareMany.push(await atOnce(() => bareExec(object)));
  }
  add({ what: "20 at once, until the last has ended", unit: "ms", ours: half(many), engine: half(bareMany) });

  const size = (quick ? 128 : 512) * 1024 ** 2;
  const rates: number[] = [];
  for (let round = 0; round < 3; round++) {
    const { seconds, bytes } = await client.drain(sandboxId, ["head", "-c", String(size), "/dev/zero"]);
    if (bytes !== size) throw new Error(`${size - bytes} bytes are missing`);
    rates.push(size / 1e6 / seconds);
  }
  add({ what: "stdout of one process", unit: "MB/s", ours: half(rates) });
  const echoes = await client.echoes(sandboxId, quick ? 100 : 300);
  add({ what: "echo over the attached socket, p50", unit: "ms", ours: half(echoes) });
  await end(sandboxId);
}
