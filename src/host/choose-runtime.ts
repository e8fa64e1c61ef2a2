import { existsSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Runtime } from "./runtime.ts";

const PING_TIMEOUT_MS = 2_000;
const DEFAULT_SOCKET = "/var/run/docker.sock";
/** The file that says that this host has run on an engine. */
const USED_ENGINE = "used-engine";
const ENGINE_START_MS = 60_000;
const RETRY_MS = 250;

export interface RuntimeOptions {
  dataDir: string;
  hostId: string;
  /** Whose registry has the images that travel. */
  controlPlaneUrl: string;
}

export interface RuntimeChoice {
  runtime: Runtime;
  /** For the line that the daemon prints. */
  why: string;
}

/**
 * Opens the runtime that was asked for; with `auto` docker where an engine answers, else the embedded one. A host that ran on
 * an engine before has containers there: it waits for it, and does not become another.
 */
export async function chooseRuntime(
  wanted: "auto" | "docker" | "embedded",
  options: RuntimeOptions,
): Promise<RuntimeChoice> {
  const choice = await choose(wanted, options);
  const mark = `${options.dataDir}/${USED_ENGINE}`;
  if (choice.runtime.kind === "docker") writeFileSync(mark, "");
  else rmSync(mark, { force: true });
  return choice;
}

async function choose(wanted: "auto" | "docker" | "embedded", options: RuntimeOptions): Promise<RuntimeChoice> {
  const socketPath = engineSocket();
  if (wanted === "embedded") return openEmbedded(options, "as asked");
  const isExpected = existsSync(`${options.dataDir}/${USED_ENGINE}`);
  const answers = await engineAnswers(socketPath, isExpected ? ENGINE_START_MS : 0);
  if (wanted === "docker") {
    if (!answers) throw new Error(`no Docker engine answers on ${socketPath}`);
    return openDocker({ ...options, socketPath }, "as asked");
  }
  return answers
    ? openDocker({ ...options, socketPath }, `an engine answers on ${socketPath}`)
    : openEmbedded(options, `no Docker engine answers on ${socketPath}`);
}

async function openDocker(options: RuntimeOptions & { socketPath: string }, why: string): Promise<RuntimeChoice> {
  const { openDockerRuntime } = await import("./docker/runtime.ts");
  return { runtime: await openDockerRuntime(options), why };
}

async function openEmbedded(options: RuntimeOptions, why: string): Promise<RuntimeChoice> {
  const { openEmbeddedRuntime } = await import("./embedded/runtime.ts");
  return { runtime: await openEmbeddedRuntime(options), why };
}

/** `DOCKER_HOST` counts where it names a socket: the engine must be on this machine. */
function engineSocket(): string {
  const host = process.env["DOCKER_HOST"];
  return host?.startsWith("unix://") ? host.slice("unix://".length) : DEFAULT_SOCKET;
}

/** Whether an engine answers now, or within so many milliseconds. */
async function engineAnswers(socketPath: string, patienceMs: number): Promise<boolean> {
  for (const giveUpAt = Date.now() + patienceMs; !(await pings(socketPath)); await sleep(RETRY_MS)) {
    if (Date.now() >= giveUpAt) return false;
  }
  return true;
}

function pings(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const ping = request({ socketPath, path: "/_ping", timeout: PING_TIMEOUT_MS, agent: false }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    ping.on("timeout", () => ping.destroy());
    ping.on("error", () => resolve(false));
    ping.on("close", () => resolve(false));
    ping.end();
  });
}
