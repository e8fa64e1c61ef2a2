import { request } from "node:http";
import type { Runtime } from "./runtime.ts";

const PING_TIMEOUT_MS = 2_000;
const DEFAULT_SOCKET = "/var/run/docker.sock";

export interface RuntimeChoice {
  runtime: Runtime;
  /** For the line that the daemon prints. */
  why: string;
}

/** Opens the runtime that was asked for; with `auto` docker where an engine answers, else the embedded one. */
export async function chooseRuntime(
  wanted: "auto" | "docker" | "embedded",
  options: { dataDir: string; hostId: string },
): Promise<RuntimeChoice> {
  const socketPath = engineSocket();
  if (wanted === "embedded") return openEmbedded(options.dataDir, "as asked");
  const answers = await engineAnswers(socketPath);
  if (wanted === "docker") {
    if (!answers) throw new Error(`no Docker engine answers on ${socketPath}`);
    return openDocker({ ...options, socketPath }, "as asked");
  }
  return answers
    ? openDocker({ ...options, socketPath }, `an engine answers on ${socketPath}`)
    : openEmbedded(options.dataDir, `no Docker engine answers on ${socketPath}`);
}

async function openDocker(
  options: { dataDir: string; hostId: string; socketPath: string },
  why: string,
): Promise<RuntimeChoice> {
  const { openDockerRuntime } = await import("./docker/runtime.ts");
  return { runtime: await openDockerRuntime(options), why };
}

async function openEmbedded(dataDir: string, why: string): Promise<RuntimeChoice> {
  const { openEmbeddedRuntime } = await import("./embedded/runtime.ts");
  return { runtime: await openEmbeddedRuntime({ dataDir }), why };
}

/** `DOCKER_HOST` counts where it names a socket: the engine must be on this machine. */
function engineSocket(): string {
  const host = process.env["DOCKER_HOST"];
  return host?.startsWith("unix://") ? host.slice("unix://".length) : DEFAULT_SOCKET;
}

function engineAnswers(socketPath: string): Promise<boolean> {
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
