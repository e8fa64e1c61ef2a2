import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { BACKENDS, type BackendName } from "../contract/sandbox.ts";
import { deriveHostKey, formatJoinToken } from "../contract/host-token.ts";
import { removeContainersOf, requireDocker } from "./docker-cli.ts";
import { loadState, type DevState } from "./state.ts";
import { SupervisedProcess } from "./supervisor.ts";
import { watch } from "./watchdog.ts";
import { prepareWorker, workerService } from "./worker-service.ts";

/**
 * `npm start`: the whole of Sandbar on this machine. The Worker with a local D1, R2 and Durable Objects, and a
 * `sandbar host` beside it.
 *
 *   PORT             where the API answers (8787); 0 takes a free one
 *   DEV_KEY          the API key, 16 characters or more; else one is made and kept
 *   SANDBAR_STATE    directory of everything that outlives a run (.sandbar/<PORT>)
 *   SANDBAR_RUNTIME  auto, docker or embedded
 *   SANDBAR_CONTAINERS  1 runs Cloudflare Containers on this machine's Docker, too: `"backend": "cloudflare"` at create
 *   SANDBAR_WRANGLER 1 runs the Worker under `wrangler dev`, as SANDBAR_CONTAINERS does, too: it follows changes of the source
 *   SANDBAR_BACKEND  where a sandbox runs that asks for no backend: docker (as wrangler.toml has it) or cloudflare
 */
const REPOSITORY = resolve(import.meta.dirname, "../..");
const READY_TIMEOUT_MS = 120_000;
/** The first start with containers builds their image. */
const READY_WITH_CONTAINERS_MS = 900_000;

async function main(): Promise<void> {
  const backend = chooseBackend(process.env["SANDBAR_BACKEND"]);
  if (hasContainers()) await requireDocker();
  const port = await choosePort(process.env["PORT"]);
  const directory = resolve(process.env["SANDBAR_STATE"] ?? join(REPOSITORY, ".sandbar", String(port)));
  const state = loadState(directory, process.env["DEV_KEY"], await choosePort("0"));
  const url = `http://127.0.0.1:${port}`;
  await prepareWorker(directory, hasContainers());
  const worker = new SupervisedProcess(
    workerService({ directory, port, state, backend, hasContainers: hasContainers(), onLine: printOnceReady }),
    giveUp,
  );
  const host = new SupervisedProcess(await hostService(directory, url, state), giveUp);

  let isStopping = false;
  let endWatch = () => {};
  async function stop(exitCode: number): Promise<void> {
    if (isStopping) return;
    isStopping = true;
    endWatch();
    await host.stop();
    await worker.stop();
    if (hasContainers()) await removeContainersOf(join(directory, "worker")).catch(printError);
    process.exit(exitCode);
  }
  function giveUp(message: string): void {
    console.error(message);
    void stop(1);
  }
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void stop(0));

  worker.start();
  host.start();
  const runtime = await untilReady(url, state.devKey).catch((error: unknown) => {
    const output = [worker.output, host.output].filter(Boolean).join("\n");
    giveUp(`${error instanceof Error ? error.message : String(error)}\n${output}`);
  });
  if (!runtime) return;
  isReady = true;
  // A runtime that died is started again below; one that stands still, or what `wrangler dev` has before it then, may hold every
  // request for ever.
  if (!isStopping) endWatch = watch(url, () => worker.restart());
  console.log(welcome(port, state.devKey, runtime, hostLine));
}

const hasContainers = () => process.env["SANDBAR_CONTAINERS"] === "1";

let hostLine = "";
/** Why there is no network policy here. */
let noRules = "";
let isReady = false;

/** What the services say while they wait for each other is of interest only if they never find together. */
function printOnceReady(line: string): void {
  if (isReady && line.trim()) console.error(line);
}

function chooseBackend(wanted: string | undefined): BackendName | undefined {
  if (wanted === undefined) return undefined;
  const backend = BACKENDS.find((name) => name === wanted);
  if (!backend) throw new Error(`SANDBAR_BACKEND must be one of ${BACKENDS.join(", ")}, not ${wanted}.`);
  if (backend === "cloudflare" && !hasContainers()) {
    throw new Error("SANDBAR_BACKEND=cloudflare takes SANDBAR_CONTAINERS=1, too.");
  }
  return backend;
}

async function hostService(directory: string, url: string, state: DevState) {
  const token = formatJoinToken(state.hostId, await deriveHostKey(state.signingSecret, state.hostId));
  const args = [join(REPOSITORY, "src/host/cli.ts"), "host", "--control-plane", url];
  // Another program may have taken the port since the last run.
  const port = await choosePort(String(state.hostPort)).catch(() => choosePort("0"));
  args.push("--listen", `127.0.0.1:${port}`, "--data-dir", hostDataDirectory(directory), "--ephemeral");
  args.push("--runtime", process.env["SANDBAR_RUNTIME"] ?? "auto");
  return {
    name: "The host",
    command: process.execPath,
    args,
    env: { ...process.env, SANDBAR_TOKEN: token },
    onLine: (line: string) => {
      if (line.startsWith("sandbar host ")) hostLine = line;
      else printOnceReady(line);
      noRules ||= /^sandbar host: no rules can be set for the network of a sandbox: (.+)/.exec(line)?.[1] ?? "";
    },
    stopMs: 30_000,
  };
}

/**
 * The host's own directory. Mount options and socket names leave it few characters, so that a deep or
 * unusual path gets one in the home directory instead.
 */
function hostDataDirectory(directory: string): string {
  const inside = join(directory, "host");
  if (/^[A-Za-z0-9/._-]{1,55}$/.test(inside)) return inside;
  return join(homedir(), `.sandbar-${createHash("sha256").update(inside).digest("hex").slice(0, 12)}`);
}

/** Waits until the API answers and the host has joined; returns the host's runtime. */
async function untilReady(url: string, key: string): Promise<string> {
  const timeoutMs = hasContainers() ? READY_WITH_CONTAINERS_MS : READY_TIMEOUT_MS;
  const giveUpAt = Date.now() + timeoutMs;
  while (Date.now() < giveUpAt) {
    const runtime = await fetch(`${url}/v1/hosts`, {
      headers: { authorization: `Bearer ${key}` },
      signal: AbortSignal.timeout(2000),
    })
      .then((response) => response.json() as Promise<{ data?: { runtime?: string }[] }>)
      .then((page) => page.data?.[0]?.runtime)
      .catch(() => undefined);
    if (runtime) return runtime;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  throw new Error(`Sandbar did not become ready within ${timeoutMs / 60_000} minutes.`);
}

function choosePort(wanted: string | undefined): Promise<number> {
  const port = Number(wanted ?? 8787);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new Error(`PORT must be a port number, not ${wanted}.`);
  return new Promise((done, fail) => {
    const server = createServer();
    server.once("error", () => fail(new Error(`Port ${port} is taken. Choose another: PORT=8790 npm start`)));
    server.listen(port, "127.0.0.1", () => {
      const address = server.address();
      const chosen = typeof address === "object" && address ? address.port : port;
      server.close(() => done(chosen));
    });
  });
}

function welcome(port: number, key: string, runtime: string, host: string): string {
  const url = `http://localhost:${port}`;
  return `
  Sandbar is ready.

    API      ${url}/v1
    Docs     ${url}/docs
    Key      ${key}
    Runtime  ${runtime}${host.includes(": ") ? `  (${host.slice(host.lastIndexOf(": ") + 2)})` : ""}${
      hasContainers() ? '\n    Also     Cloudflare Containers on this machine: "backend": "cloudflare" at create' : ""
    }${noRules && `\n    Network  without policies: ${noRules}`}

  Try it:

    export SANDBAR=${url}/v1 KEY=${key}
    ID=$(curl -s $SANDBAR/sandboxes -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
      -d '{}' | grep -o 'sb-[a-z0-9]*' | head -1)
    curl -s "$SANDBAR/sandboxes/$ID/exec?wait=10" -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \\
      -d '{"command": ["echo", "hello from a sandbox"]}'

  Ctrl-C ends it and every sandbox of this machine's host.
`;
}

function printError(error: unknown): void {
  console.error(error instanceof Error ? error.message : error);
}

// The machine's own Node may be older than the one this project brings.
if (Number(process.versions.node.split(".")[0]) < 24) {
  spawn(join(REPOSITORY, "node_modules/.bin/node"), process.argv.slice(1), { stdio: "inherit" });
} else {
  await main().catch((error: unknown) => {
    printError(error);
    process.exit(1);
  });
}
