import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import type { BackendName } from "../contract/sandbox.ts";
import { whenChanged, writeAtomically, type DevState } from "./state.ts";
import type { Service } from "./supervisor.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
const WRANGLER = join(REPOSITORY, "node_modules/wrangler/bin/wrangler.js");
const CONFIG = join(REPOSITORY, "wrangler.toml");

/** Wrangler's own variables, and two that many read: nobody asks here, and what goes well is not worth a line. */
const QUIET = {
  WRANGLER_SEND_METRICS: "false",
  WRANGLER_HIDE_BANNER: "true",
  WRANGLER_LOG: "warn",
  CI: "1",
  NO_COLOR: "1",
};

export interface WorkerSettings {
  /** Where the instance keeps what outlives a run. */
  directory: string;
  port: number;
  state: DevState;
  /** Where a sandbox runs that asks for no backend; undefined: as `wrangler.toml` has it. */
  backend: BackendName | undefined;
  /** Whether Cloudflare Containers run on this machine: their images are built by `wrangler dev`. */
  hasContainers: boolean;
  onLine: (line: string) => void;
}

/** The Worker as a process of its own. */
export function workerService({ directory, port, state, backend, hasContainers, onLine }: WorkerSettings): Service {
  const envFile = join(directory, "worker.env");
  const variables = {
    ADMIN_KEY: state.devKey,
    SIGNING_SECRET: state.signingSecret,
    // Nobody else reaches it, and what a client says of its address is not taken from it here.
    CLIENT_ADDRESS: "127.0.0.1",
    ...(backend !== undefined && { DEFAULT_BACKEND: backend }),
  };
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${JSON.stringify(value)}\n`);
  writeAtomically(envFile, lines.join(""));
  const args = ["--port", String(port), "--persist-to", join(directory, "worker"), "--env-file", envFile];
  const way = isWranglers(hasContainers) ? wranglerDev(args, hasContainers) : workerd(directory, args);
  return {
    name: "The Worker",
    command: process.execPath,
    // Neither ends with its parent by itself.
    args: [join(import.meta.dirname, "tether.ts"), ...way],
    env: {
      ...process.env,
      ...QUIET,
      // Else each start asks the network for a `request.cf` that nothing here reads.
      CLOUDFLARE_CF_FETCH_ENABLED: "false",
      // Wrangler's explorer shows and edits D1 without a key.
      X_LOCAL_EXPLORER: "false",
      // Wrangler keeps a trace of every request on the disk, and has each answer wait for that twice.
      X_LOCAL_OBSERVABILITY: "false",
    },
    onLine,
    stopMs: 10_000,
  };
}

function workerd(directory: string, args: string[]): string[] {
  return [join(import.meta.dirname, "workerd.ts"), "--config", CONFIG, "--bundle", join(directory, "bundle"), ...args];
}

function wranglerDev(args: string[], hasContainers: boolean): string[] {
  const shown = ["--log-level", "warn", "--show-interactive-dev-session=false"];
  const containers = hasContainers ? ["--enable-containers"] : [];
  return [WRANGLER, "dev", "--ip", "127.0.0.1", "--inspector-port", "0", ...shown, ...containers, ...args];
}

const isWranglers = (hasContainers: boolean) => hasContainers || process.env["SANDBAR_WRANGLER"] === "1";

/** Does what must be done before the Worker starts, where it has not been done before. */
export async function prepareWorker(directory: string, hasContainers: boolean): Promise<void> {
  await Promise.all([migrate(directory), isWranglers(hasContainers) || bundle(join(directory, "bundle"))]);
}

/** Brings the local database up to date. */
function migrate(directory: string): Promise<void> {
  const persistTo = join(directory, "worker");
  return whenChanged(join(directory, "migrations"), [join(REPOSITORY, "migrations")], () =>
    wrangler("d1", "migrations", "apply", "DB", "--local", "--persist-to", persistTo),
  );
}

/** Puts the Worker into one file. */
function bundle(outDirectory: string): Promise<void> {
  const sources = ["src", "wrangler.toml", "package-lock.json"].map((name) => join(REPOSITORY, name));
  return whenChanged(join(outDirectory, "made-of"), sources, () =>
    wrangler("deploy", "--dry-run", "--containers-rollout=none", "--outdir", outDirectory),
  );
}

async function wrangler(...args: string[]): Promise<void> {
  const child = spawn(process.execPath, [WRANGLER, ...args], {
    cwd: REPOSITORY,
    env: { ...process.env, ...QUIET },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  if (code !== 0) throw new Error(`wrangler ${args[0]} ended with ${signal ?? `code ${code}`}.`);
}
