import { spawnSync } from "node:child_process";
import { join, resolve } from "node:path";

/**
 * `npm run deploy`: brings the catalog up to date, then the Worker. With SANDBAR_CONTAINERS=1 also the containers of
 * wrangler.toml, which takes Docker; without it those that are deployed stay as they are, and a new deployment has none.
 * What else is said on the command line goes to `wrangler deploy`.
 */
const WRANGLER = join(resolve(import.meta.dirname, "../.."), "node_modules/wrangler/bin/wrangler.js");
const containers = process.env["SANDBAR_CONTAINERS"] === "1" ? [] : ["--containers-rollout=none"];

for (const args of [
  ["d1", "migrations", "apply", "DB", "--remote"],
  ["deploy", ...containers, ...process.argv.slice(2)],
]) {
  const { status } = spawnSync(process.execPath, [WRANGLER, ...args], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}
