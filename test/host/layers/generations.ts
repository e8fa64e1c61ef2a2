/**
 * Takes snapshots of snapshots: each generation changes what the one before restored, is packed, unpacked as a layer
 * over that one's, and has to show the same. Runs as whoever it is started by: `generations.ts DIRECTORY SEED`.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { isRoot, run } from "../../../src/host/linux/programs.ts";
import { packLayer } from "../../../src/host/layers/pack.ts";
import { unpackLayer } from "../../../src/host/layers/unpack.ts";
import { differences } from "./tree.ts";
import { TREES, type ViewArgument } from "./view.ts";

const GENERATIONS = 5;
const BASE_ENTRIES = 2000;
const FIRST_ENTRIES = 10_000;
const CHANGES = 700;

export interface Report {
  entries: number;
  whiteouts: number;
  opaque: number;
  bytes: number;
  packMs: number;
  unpackMs: number;
  /** Whether the same tree gave the same bytes. */
  isSame: boolean;
  /** Whether what was unpacked packs to the same bytes again. */
  isStable: boolean;
  wrong: string[];
}

export async function runGenerations(directory: string, seed: number): Promise<Report[]> {
  const base = `${directory}/base`;
  const view = { base, options: isRoot ? "index=off,metacopy=off,redirect_dir=off" : "userxattr" };
  const empty = `${directory}/empty`;
  for (const place of [`${empty}/root/usr`, `${empty}/usr`, `${directory}/at`, `${directory}/base-writable`])
    mkdirSync(place, { recursive: true });
  await show(directory, { ...view, lower: [empty], writable: `${directory}/base-writable`, seed, make: BASE_ENTRIES });
  const lower = [`${directory}/base-writable/upper`, empty];
  const reports: Report[] = [];
  for (let generation = 1; generation <= GENERATIONS; generation++) {
    const writable = `${directory}/writable-${generation}`;
    const layer = `${directory}/layer-${generation}`;
    mkdirSync(writable);
    const make = generation === 1 ? FIRST_ENTRIES : 0;
    await show(directory, { ...view, lower, writable, seed: seed + generation, make, change: CHANGES });
    // Mounted anew: for an ordinary user, names of one file have inodes of their own as long as the overlay that
    // copied it up remembers where it came from.
    const before = await show(directory, { ...view, lower, writable });
    const started = Date.now();
    const packed = await pack(`${writable}/upper`);
    const packMs = Date.now() - started;
    await unpackLayer(Readable.from([packed]), layer, TREES);
    const unpackMs = Date.now() - started - packMs;
    lower.unshift(layer);
    const after = await show(directory, { ...view, lower });
    reports.push({
      entries: after.size,
      whiteouts: packed.toString("latin1").split(/\.wh\.(?!\.wh)/).length - 1,
      opaque: packed.toString("latin1").split(".wh..wh..opq").length - 1,
      bytes: packed.length,
      packMs,
      unpackMs,
      isSame: digest(packed) === digest(await pack(`${writable}/upper`)),
      isStable: digest(packed) === digest(await pack(layer)),
      wrong: differences(before, after),
    });
  }
  return reports;
}

function pack(upper: string): Promise<Buffer> {
  const trees = TREES.map((tree) => ({ directory: `${upper}/${tree}`, prefix: tree === "root" ? "" : tree }));
  return buffer(packLayer(trees, { sparse: true }));
}

function digest(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

async function show(directory: string, view: Partial<ViewArgument>): Promise<Map<string, string>> {
  const output = `${directory}/view.json`;
  const argument = { seed: 0, make: 0, change: 0, at: `${directory}/at`, output, ...view };
  const namespaces = ["unshare", "--mount", ...(isRoot ? [] : ["--user", "--map-root-user"]), "--"];
  const environment = ["env", `SANDBAR_TEST_PRIVILEGED=${isRoot ? 1 : 0}`];
  const script = `${import.meta.dirname}/view.ts`;
  await run([...namespaces, ...environment, process.execPath, script, JSON.stringify(argument)]);
  return new Map(JSON.parse(readFileSync(output, "utf8")) as [string, string][]);
}

if (process.argv[1] === import.meta.filename)
  process.stdout.write(JSON.stringify(await runGenerations(process.argv[2]!, Number(process.argv[3]))));
