import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

const DOCKER_CLI = join(import.meta.dirname, "docker-cli.sh");
const SIDECAR_DIR = join(import.meta.dirname, "sidecar");
const SIDECAR_NAME = "sandbar-test/egress-sidecar";
const ANSWER_MS = 10_000;
const BUILD_MS = 300_000;

/** What `wrangler dev --enable-containers` needs in its environment, or why it cannot run containers here. */
export type Containers = { env: Record<string, string> } | { skipReason: string };

/**
 * Makes this machine ready for `ctx.container` in `wrangler dev`: checks the engine and builds the networking sidecar,
 * once per version of its files. An egress image named by the environment is used instead. Throws when a build fails.
 */
export async function prepareContainers(): Promise<Containers> {
  const skipReason = await whyNoEngine();
  if (skipReason !== undefined) return { skipReason };
  const image = process.env["MINIFLARE_CONTAINER_EGRESS_IMAGE"] ?? (await sidecarImage());
  return { env: { WRANGLER_DOCKER_BIN: DOCKER_CLI, MINIFLARE_CONTAINER_EGRESS_IMAGE: image } };
}

/** The runtime finds the host by the gateway of the default bridge, which an engine only names when it was given one. */
async function whyNoEngine(): Promise<string | undefined> {
  const format = "{{range .IPAM.Config}}{{.Gateway}}{{end}}";
  try {
    const gateway = await docker(["network", "inspect", "bridge", "--format", format], ANSWER_MS);
    return gateway ? undefined : "the engine's default bridge names no gateway (start dockerd with --bip)";
  } catch (error) {
    return `no Docker engine answers: ${reasonOf(error)}`;
  }
}

async function sidecarImage(): Promise<string> {
  const image = `${SIDECAR_NAME}:${hashOf(SIDECAR_DIR)}`;
  const isBuilt = await docker(["image", "inspect", image], ANSWER_MS).then(
    () => true,
    () => false,
  );
  if (!isBuilt) await docker(["build", "--load", "-t", image, SIDECAR_DIR], BUILD_MS);
  return image;
}

function hashOf(directory: string): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(directory).sort()) hash.update(name).update(readFileSync(join(directory, name)));
  return hash.digest("hex").slice(0, 12);
}

async function docker(args: string[], timeout = ANSWER_MS): Promise<string> {
  const { stdout } = await run(DOCKER_CLI, args, { timeout, maxBuffer: 64 * 1024 * 1024 });
  return stdout.trim();
}

function reasonOf(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message: string };
  return (stderr?.trim() || message).split("\n").at(-1)!;
}
