import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { TestProject } from "vitest/node";
import { HostInfoSchema } from "../../src/contract/host-info.ts";
import { deriveHostKey, formatJoinToken, signRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { Lab, noLab } from "../host/network/lab.ts";

export interface RealHost {
  runtime: "docker" | "embedded";
  hostId: string;
  url: string;
  image: string;
  /** Whether it holds rules for networks. */
  hasRules: boolean;
}

declare module "vitest" {
  interface ProvidedContext {
    realHosts: RealHost[];
    signingSecret: string;
    /** An address that sandboxes without rules can connect to, where there is one. */
    outside: string | undefined;
  }
}

const SIGNING_SECRET = "backend-suite-signing-secret-0123456789";
const IMAGES = { docker: "debian:bookworm-slim", embedded: "host" } as const;

/** Starts one real `sandbar host` per runtime that this machine has. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const hosts: RealHost[] = [];
  const stops: (() => Promise<void>)[] = [];
  for (const runtime of ["embedded", "docker"] as const) {
    try {
      const { host, stop } = await startHost(runtime);
      hosts.push(host);
      stops.push(stop);
    } catch (error) {
      console.warn(`The backend suite skips the ${runtime} runtime: ${error instanceof Error ? error.message : error}`);
    }
  }
  const lab = noLab ? undefined : await Lab.start();
  if (lab) stops.push(() => lab.close());
  project.provide("outside", lab?.plan.allowed);
  project.provide("realHosts", hosts);
  project.provide("signingSecret", SIGNING_SECRET);
  return async () => {
    await Promise.all(stops.map((stop) => stop()));
  };
}

async function startHost(runtime: "docker" | "embedded") {
  const hostId = newId("host");
  const directory = mkdtempSync(join(tmpdir(), "sb-"));
  const key = await deriveHostKey(SIGNING_SECRET, hostId);
  const token = formatJoinToken(hostId, key);
  const cli = resolve(import.meta.dirname, "../../src/host/cli.ts");
  const args = ["host", "--control-plane", "http://127.0.0.1:9", "--listen", "127.0.0.1:0", "--ephemeral"];
  const child = spawn(process.execPath, [cli, ...args, "--runtime", runtime, "--data-dir", directory], {
    env: { ...process.env, SANDBAR_TOKEN: token },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const stop = async () => {
    await endOf(child, () => child.kill("SIGTERM"));
    rmSync(directory, { recursive: true, force: true });
  };
  const url = await urlOf(child).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  const signature = await signRequest(key, hostId, "GET", "/v1/info");
  const info = await fetch(`${url}/v1/info`, { headers: { "x-sandbar-signature": signature } });
  const { capabilities } = HostInfoSchema.parse(await info.json());
  const hasRules = capabilities.network_rules === true;
  return { host: { runtime, hostId, url, image: IMAGES[runtime], hasRules } satisfies RealHost, stop };
}

function urlOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    let output = "";
    const timer = setTimeout(() => reject(new Error(`The host did not start in time:\n${output}`)), 30_000);
    const read = (chunk: Buffer) => {
      output += chunk.toString();
      const url = /sandbar host \S+ on (http\S+?):? /.exec(output)?.[1];
      if (!url) return;
      clearTimeout(timer);
      resolve(url.replace(/:$/, ""));
    };
    child.stdout!.on("data", read);
    child.stderr!.on("data", read);
    child.on("exit", (code) => reject(new Error(`The host ended with ${code}:\n${output}`)));
  });
}

async function endOf(child: ChildProcess, kill: () => void): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  kill();
  const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
  await ended;
  clearTimeout(timer);
}
