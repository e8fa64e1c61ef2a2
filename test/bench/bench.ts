import { parseArgs } from "node:util";
import type { RuntimeName } from "../e2e/instance.ts";
import { benchContainers } from "./containers.ts";
import { benchCreates } from "./creates.ts";
import { EngineCli } from "./engine.ts";
import { benchFiles } from "./files.ts";
import { HostBench } from "./host.ts";
import { benchLifecycle } from "./lifecycle.ts";
import { benchSnapshots } from "./snapshots.ts";
import { benchPlacement } from "./placement.ts";
import { benchTunnels } from "./tunnels.ts";
import { benchVolumes } from "./volumes.ts";
import { isMet, table, writeJson, type Row } from "./report.ts";

/**
 * `npm run bench`: execs and streams through the whole of Sandbar, as `npm start` runs it, beside the engine's own command
 * line on the same engine, and on Cloudflare Containers beside bare `ctx.container`; creates beside `docker run`; lists and
 * storage of a thousand sandboxes beside those of none; snapshots beside `docker commit` and `docker push`; files beside `docker cp`; volumes beside their limits; tunnels beside a published
 * port; the placement policy
 * on a fleet of ten thousand hosts; in one run.
 *
 *   --quick        fewer rounds
 *   --gib N        how much one process writes in the memory test (10; 1 with --quick)
 *   --runtime R    of the host: docker (where an engine answers) or embedded
 *   --only PART    host, creates, containers, lifecycle, files, snapshots, tunnels, volumes or placement
 *   --json PATH    where the results go (.sandbar/bench.json)
 *   --strict       ends with 1 when a target is missed
 */
const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    gib: { type: "string" },
    runtime: { type: "string" },
    only: { type: "string" },
    json: { type: "string", default: ".sandbar/bench.json" },
    strict: { type: "boolean", default: false },
  },
});
const { quick, gib, only } = options;
const host: Row[] = [];
const creates: Row[] = [];
const containers: Row[] = [];
const lifecycle: Row[] = [];
const files: Row[] = [];
const snapshots: Row[] = [];
const tunnels: Row[] = [];
const volumes: Row[] = [];
const placement: Row[] = [];

const engine = only === "placement" ? undefined : EngineCli.start();
const runtime = (options.runtime ?? (engine ? "docker" : "embedded")) as RuntimeName;
try {
  const isAsked = (part: string) => only === undefined || only === part;
  if (isAsked("host")) await HostBench.run({ runtime, engine, quick, gib, add: adder(host) });
  if (engine && isAsked("creates")) await benchCreates(engine, quick, adder(creates));
  if (isAsked("containers")) await benchContainers(quick, adder(containers));
  if (isAsked("lifecycle")) await benchLifecycle("embedded", quick, adder(lifecycle));
  if (isAsked("files")) await benchFiles({ runtime, engine, quick, add: adder(files) });
  if (isAsked("tunnels")) await benchTunnels({ runtime, quick, add: adder(tunnels) });
  if (isAsked("volumes")) await benchVolumes(runtime, quick, adder(volumes));
  if (isAsked("snapshots")) await benchSnapshots(runtime, quick, adder(snapshots));
  if (isAsked("placement")) benchPlacement(quick, adder(placement));
} finally {
  engine?.remove();
}
console.log("");
if (host.length > 0) console.log(`On a host with ${runtime}:\n\n${table(host, "docker exec")}\n`);
if (creates.length > 0) console.log(`Creates on a host with docker:\n\n${table(creates, "docker run")}\n`);
if (containers.length > 0) {
  console.log(`On Cloudflare Containers, as wrangler dev runs them:\n\n${table(containers, "ctx.container")}\n`);
}
if (lifecycle.length > 0) {
  console.log(`A thousand sandboxes, a hundred of them live:\n\n${table(lifecycle, "no sandbox, or the limit")}\n`);
}
if (files.length > 0) console.log(`Files on a host with ${runtime}:\n\n${table(files, "docker cp")}\n`);
if (tunnels.length > 0) {
  console.log(
    `Tunnels to a sandbox on a host with ${runtime}:\n\n${table(tunnels, "its published port; or the limit")}\n`,
  );
}
if (volumes.length > 0) console.log(`Volumes on a host with ${runtime}:\n\n${table(volumes, "the limit")}\n`);
if (snapshots.length > 0) {
  console.log(
    `Snapshots on a host with ${runtime}:\n\n${table(snapshots, "docker commit, docker push; or the limit")}\n`,
  );
}
if (placement.length > 0) {
  console.log(`The placement policy, simulated with 10,000 hosts:\n\n${table(placement, "the limit")}\n`);
}
writeJson(options.json, runtime, {
  host,
  creates,
  containers,
  lifecycle,
  files,
  snapshots,
  tunnels,
  volumes,
  placement,
});
console.log(`Written to ${options.json}`);
const all = [
  ...host,
  ...creates,
  ...containers,
  ...lifecycle,
  ...files,
  ...snapshots,
  ...tunnels,
  ...volumes,
  ...placement,
];
if (options.strict && all.some((row) => isMet(row) === false)) process.exitCode = 1;

function adder(to: Row[]): (row: Row) => void {
  return (row) => {
    to.push(row);
    const beside = row.engine === undefined ? "" : `, beside it ${row.engine.toFixed(2)}`;
    console.error(`${row.what}: ${row.ours.toFixed(2)} ${row.unit}${beside}`);
  };
}
