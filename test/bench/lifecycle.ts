import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Instance, type RuntimeName } from "../e2e/instance.ts";
import { BenchClient } from "./client.ts";
import { percentile, timed, type Row } from "./report.ts";

const RECORDED = 1000;
const LIVE = 100;
/** Creates and deletes at a time. */
const AT_ONCE = 8;
const KIB = 1024;
/** What an ended sandbox may take in its object's storage. */
const MAX_STORAGE_KIB = 64;

interface Page {
  data: { sandbox_id: string; state: string }[];
  next_cursor?: string;
}

/** A thousand sandboxes recorded and a hundred of them live on one host, each with a `sleep`: lists, and what the ended take. */
export async function benchLifecycle(runtime: RuntimeName, quick: boolean, add: (row: Row) => void): Promise<void> {
  const instance = await Instance.start(runtime);
  try {
    await measure(instance, quick, add);
  } finally {
    await instance.remove();
  }
}

async function measure(instance: Instance, quick: boolean, add: (row: Row) => void): Promise<void> {
  const client = new BenchClient(instance);
  const [recorded, live] = quick ? [RECORDED / 5, LIVE / 5] : [RECORDED, LIVE];
  const list = (query: string, of = client) => of.json<Page>("GET", `/sandboxes${query}`);
  const newClient = async (environment: string) => {
    const body = { name: "bench", environment, scopes: ["read"] };
    return new BenchClient(instance, (await client.json<{ key: string }>("POST", "/keys", body)).key);
  };
  const [full, empty] = [await newClient("main"), await newClient("empty")];
  const create = async (body: object) =>
    (await client.json<{ sandbox_id: string }>("POST", "/sandboxes", body)).sandbox_id;

  const ended: string[] = [];
  await atOnce(recorded - live, async () => {
    const sandboxId = await create({ tags: { bench: "ended" } });
    (await client.open("DELETE", `/sandboxes/${sandboxId}`)).resume();
    ended.push(sandboxId);
  });
  const running: string[] = [];
  const creates: number[] = [];
  await atOnce(live, async () => {
    const body = { entrypoint: ["sleep", "3600"], timeout: 3600, tags: { bench: "live" } };
    let sandboxId = "";
    creates.push(await timed(async () => (sandboxId = await create(body))));
    running.push(sandboxId);
    const { state } = await client.json<{ state: string }>(
      "GET",
      `/sandboxes/${sandboxId}/wait?until=ready&timeout=120`,
    );
    if (state !== "ready") throw new Error(`${sandboxId} is ${state}`);
  });
  const now = await list("?state=live&limit=1000");
  if (now.data.length !== live) throw new Error(`${now.data.length} are live`);

  const target = { atMost: 2 };
  for (const [what, query] of [
    [`the ${live} live of ${recorded}`, "?state=live"],
    [`the newest 100 of ${recorded}`, ""],
    [`10 by a tag, of ${recorded}`, "?tag=bench=ended&limit=10"],
  ] as const) {
    const [times, ofNone]: [number[], number[]] = [[], []];
    for (let round = 0; round < (quick ? 60 : 300); round++) {
      times.push(await timed(() => list(query, full)));
      ofNone.push(await timed(() => list(query, empty)));
    }
    const [ours, engine] = [percentile(times, 0.5), percentile(ofNone, 0.5)];
    add({ what: `list of ${what}, p50`, unit: "ms", ours, engine, target });
  }
  const execs: number[] = [];
  for (let round = 0; round < (quick ? 40 : 200); round++) {
    execs.push(await timed(() => client.exec(running[round % running.length]!, ["true"])));
  }
  add({ what: `exec \`true\` with ${live} live, p50`, unit: "ms", ours: percentile(execs, 0.5) });
  add({ what: `create, ${AT_ONCE} at a time, p50`, unit: "ms", ours: percentile(creates, 0.5) });

  const sizes = storageOf(instance);
  if (sizes.length < recorded) throw new Error(`the storage of ${sizes.length} objects was found`);
  const storage = { unit: "KiB", engine: MAX_STORAGE_KIB, target: { atMost: 1 } } as const;
  add({ what: "object storage of a sandbox, median", ours: percentile(sizes, 0.5), ...storage });
  add({ what: "object storage of a sandbox, the largest", ours: Math.max(...sizes), ...storage });
}

/** Runs it so many times, some at a time. */
async function atOnce(count: number, run: () => Promise<void>): Promise<void> {
  let left = count;
  const one = async () => {
    while (left-- > 0) await run();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

/** KiB that each object's SQLite takes, as the platform counts: pages in use. Copies are read, for the objects have theirs open. */
function storageOf(instance: Instance): number[] {
  const root = `${instance.stateDirectory}/worker/v3/do`;
  const copies = mkdtempSync(join(tmpdir(), "sandbar-bench-"));
  try {
    return readdirSync(root).flatMap((folder) =>
      readdirSync(`${root}/${folder}`)
        .filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))
        .map((name) => pagesIn(`${root}/${folder}/${name}`, `${copies}/${name}`) / KIB),
    );
  } finally {
    rmSync(copies, { recursive: true });
  }
}

function pagesIn(path: string, copy: string): number {
  for (const suffix of ["", "-wal"]) if (existsSync(path + suffix)) copyFileSync(path + suffix, copy + suffix);
  const database = new DatabaseSync(copy);
  const read = (pragma: string) => Number(Object.values(database.prepare(`PRAGMA ${pragma}`).get()!)[0]);
  const bytes = (read("page_count") - read("freelist_count")) * read("page_size");
  database.close();
  return bytes;
}
