import { execFileSync, execSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import type { Readable } from "node:stream";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import { openRuntimeDir } from "../../src/host/runtime-dir.ts";
import type { Container, Runtime, Spawned, SpawnSpec } from "../../src/host/runtime.ts";

export const IMAGE = "debian:bookworm-slim";

/** Why there is no real engine to test on; undefined where there is one. */
export const noEngine = missing();
if (noEngine) console.log(`docker runtime: skipped, ${noEngine}`);

function missing(): string | undefined {
  try {
    execFileSync("docker", ["image", "inspect", IMAGE], { stdio: "pipe" });
    return undefined;
  } catch (error) {
    return `no engine with ${IMAGE}: ${String((error as { stderr?: Buffer }).stderr ?? error).trim()}`;
  }
}

export function spec(more: Partial<StartSpec> = {}): StartSpec {
  const sandbox_id = newId("sandbox");
  const base = { environment: "main", generation: 1, image: IMAGE, env: {}, raw_ports: [] };
  return { sandbox_id, ...base, lifetime_ms: 86_400_000, ...more };
}

/** A runtime on the real engine, with what its tests have started. */
export class DockerHost {
  readonly dataDir = mkdtempSync("/tmp/sandbar-docker-");
  readonly hostId = newId("host");
  readonly started: Container[] = [];
  runtime!: Runtime;
  #shared: Promise<Container> | undefined;

  static async open(options: { useLauncher?: boolean } = {}): Promise<DockerHost> {
    const host = new DockerHost();
    if (!noEngine) host.runtime = await openDockerRuntime({ ...host, ...options });
    return host;
  }

  async start(more: Partial<StartSpec> = {}): Promise<Container> {
    const container = await this.runtime.start(spec(more));
    this.started.push(container);
    return container;
  }

  /** One that idles, for all who do not mind others in it. */
  idle(): Promise<Container> {
    return (this.#shared ??= this.start());
  }

  /** The engine's names of all that is left. */
  left(): string {
    return execSync(`docker ps -aq --filter label=dev.sandbar.host=${this.hostId}`).toString().trim();
  }

  runtimeDir(): Promise<string> {
    return openRuntimeDir(this.dataDir);
  }

  async close(): Promise<void> {
    await Promise.all(this.started.map((container) => container.stop()));
    rmSync(await this.runtimeDir(), { recursive: true, force: true });
    rmSync(this.dataDir, { recursive: true, force: true });
  }
}

export type Options = Partial<Omit<SpawnSpec, "command">> & { stdin?: string };

export function spawn(container: Container, command: string[], more: Options = {}): Promise<Spawned> {
  const { stdin, ...rest } = more;
  const input = stdin === undefined ? "none" : "once";
  return container.spawn({ process_id: newId("process"), command, env: {}, input, ...rest });
}

export async function exec(container: Container, command: string[], more: Options = {}) {
  const process = await spawn(container, command, more);
  process.stdin.end(more.stdin);
  const output = Promise.all([bytes(process.stdout.stream()), bytes(process.stderr.stream())]);
  const code = await process.exited;
  process.release();
  // Whoever else still holds the output is not waited for: the table of processes does the same.
  const late = new Promise<never>((_, reject) => setTimeout(() => reject(new Error("the output does not end")), 8000));
  const [stdout, stderr] = await Promise.race([output, late]);
  return { stdout: stdout.toString(), stderr: stderr.toString(), code };
}

export const sh = (container: Container, script: string, more: Options = {}) =>
  exec(container, ["sh", "-c", script], more);

export async function bytes(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Collects what a stream says; `text` is what there is. */
export function follow(stream: Readable): { readonly text: string } {
  const seen = { text: "" };
  stream.on("data", (chunk: Buffer) => (seen.text += chunk.toString()));
  return seen;
}

export const inspect = (container: Container, format: string) =>
  execFileSync("docker", ["inspect", `sandbar-${container.sandboxId}-1`, "-f", format], { stdio: "pipe" })
    .toString()
    .trim();

/** An image of the base with some instructions of a Dockerfile; remove it again. */
export function makeImage(name: string, ...changes: string[]): string {
  const id = execFileSync("docker", ["create", IMAGE, "true"], { stdio: "pipe" }).toString().trim();
  execFileSync("docker", ["commit", ...changes.flatMap((change) => ["--change", change]), id, name], { stdio: "pipe" });
  execFileSync("docker", ["rm", id], { stdio: "pipe" });
  return name;
}

/** An image without a single file; remove it again. */
export function makeEmptyImage(name: string): string {
  execSync(`tar c -T /dev/null | docker import - ${name}`, { stdio: "pipe" });
  return name;
}

export function removeImages(...names: string[]): void {
  execFileSync("docker", ["rmi", "-f", ...names], { stdio: "pipe" });
}
