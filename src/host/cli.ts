#!/usr/bin/env node
import { fstatSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArguments, type HostArguments } from "./arguments.ts";
import { chooseRuntime } from "./choose-runtime.ts";
import { collectBuffersWithHeap } from "./collect-buffers.ts";
import { startDaemon } from "./daemon.ts";
import { keepJoin } from "./join.ts";
import { lockDataDir } from "./lock.ts";
import { parsePushArguments, PUSH_USAGE, runPush } from "./push.ts";
import { keepReserve, releaseReserveIfFull } from "./reserve.ts";
import { closeRuntimeDir } from "./runtime-dir.ts";
import { USAGE, UsageError } from "./usage.ts";

/** A shutdown that takes longer is given up. */
const SHUTDOWN_TIMEOUT_MS = 45_000;

async function main(): Promise<void> {
  const argv = process.argv.slice(2);
  const isPush = argv[0] === "push";
  try {
    if (isPush) {
      const args = parsePushArguments(argv.slice(1), process.env);
      if (args === "help") process.stdout.write(PUSH_USAGE);
      else await runPush(args);
      // The gateway's connections to the engine would keep it.
      process.exit();
    }
    const args = parseArguments(argv, process.env);
    if (args === "help") process.stdout.write(USAGE);
    else await runHost(args);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`sandbar: ${error.message}\nTry: sandbar ${isPush ? "push" : "host"} --help\n`);
    process.exitCode = 2;
  }
}

async function runHost(args: HostArguments): Promise<void> {
  collectBuffersWithHeap();
  // Asked to end while it still starts, it ends once it can do so in order.
  const asked = Promise.withResolvers<void>();
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => asked.resolve());
  if (args.isEphemeral) {
    // Its terminal closes. A lasting one may run under nohup.
    process.on("SIGHUP", () => asked.resolve());
    onParentGone(() => asked.resolve());
  }

  mkdirSync(args.dataDir, { recursive: true, mode: 0o700 });
  releaseReserveIfFull(args.dataDir);
  const unlock = lockDataDir(args.dataDir);
  process.on("exit", unlock);
  const { runtime, why } = await chooseRuntime(args.runtime, args);
  const daemon = await startDaemon({ ...args, runtime, version: version() });
  keepReserve(args.dataDir);
  try {
    await keepJoin(daemon, args);
  } catch (error) {
    await daemon.close({ stopContainers: args.isEphemeral });
    throw error;
  }
  if (args.join?.isRun === false) {
    console.log(`sandbar host ${args.hostId} has joined ${args.controlPlaneUrl}: sandbar host runs it`);
    asked.resolve();
  } else {
    console.log(`sandbar host ${args.hostId} on ${daemon.url}: ${runtime.kind} (${why})`);
  }

  await asked.promise;
  setTimeout(() => process.exit(1), SHUTDOWN_TIMEOUT_MS).unref();
  await daemon.close({ stopContainers: args.isEphemeral });
  if (args.isEphemeral) await closeRuntimeDir(args.dataDir);
  process.exit(0);
}

/** A pipe as stdin ends when the process at its other end does. */
function onParentGone(gone: () => void): void {
  const stdin = fstatSync(0);
  if (!stdin.isFIFO() && !stdin.isSocket()) return;
  process.stdin.on("error", gone).on("end", gone).resume();
}

function version(): string {
  const text = readFileSync(join(import.meta.dirname, "../../package.json"), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

main().catch((error: unknown) => {
  process.stderr.write(`sandbar: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
