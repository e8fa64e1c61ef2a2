import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Capabilities } from "../../contract/host-info.ts";
import { HOST_ENV, isRoot } from "../linux/programs.ts";
import type { Egress } from "../runtime.ts";
import { tooSlow, withTimeLimit } from "../time-limit.ts";
import { inNamespace } from "./namespace.ts";
import { rulesOf } from "./rules.ts";

const NFT_TIMEOUT_MS = 10_000;
const MAX_SAID = 2_000;
const OPTIONS: SpawnOptions = { stdio: ["pipe", "ignore", "pipe"], env: HOST_ENV, cwd: "/" };

/** Sets rules in a network namespace, all of them at once or, when it throws, none. Without one in this process's own. */
export function setRules(script: string, namespace?: number): Promise<void> {
  const start = () => spawn("nft", ["-f", "-"], OPTIONS);
  return fed(namespace === undefined ? start() : inNamespace(namespace, start), script);
}

async function fed(child: ChildProcess, script: string): Promise<void> {
  try {
    await withTimeLimit(done(child, script), NFT_TIMEOUT_MS, tooSlow("Setting the rules of the network"));
  } finally {
    child.kill("SIGKILL");
  }
}

function done(child: ChildProcess, script: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stderr!.on("data", (chunk: Buffer) => {
      if (said.length < MAX_SAID) said += chunk.toString();
    });
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`nft: ${said.trim().slice(0, MAX_SAID) || `it ends with ${code}`}`));
    });
    child.stdin!.on("error", () => {});
    child.stdin!.end(script);
  });
}

/** Every kind of rule that there is. */
const TRIAL = rulesOf(
  {
    outbound: { cidrs: ["192.0.2.0/24", "2001:db8::/32"], domains: ["example.com"] },
    inbound_cidrs: ["192.0.2.0/24", "2001:db8::/32"],
    headers: [{ domain: "example.com", header: "x", value: "y" }],
  },
  { egress: "routed", gate: { tcp: 1, dns: 1 }, rawPorts: [1], forbidden: ["127.0.0.0/8", "::1/128"] },
);

/** Why no rules can be set for containers of this machine; undefined where they can. Tried in a network of nobody's. */
export async function whyNoRules(egress: Egress): Promise<string | undefined> {
  if (process.platform !== "linux") return `this is ${process.platform}`;
  if (!isRoot) return "the daemon is not root's";
  try {
    enterOwn();
    const routes = egress === "gated" ? "ip link set lo up && ip route add local default dev lo && " : "";
    await fed(spawn("unshare", ["--net", "sh", "-c", `${routes}exec nft -f -`], OPTIONS), TRIAL);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/**
 * What a runtime can do where rules can be set for its containers; nothing where they cannot, which is said once. `hindrance` is
 * what of the runtime itself stands in the way.
 */
export async function networkCapabilities(
  egress: Egress,
  hindrance?: string,
): Promise<Pick<Capabilities, "network_rules" | "egress_headers" | "block_network">> {
  const reason = hindrance ?? (await whyNoRules(egress));
  if (reason === undefined) return { network_rules: true, egress_headers: true, block_network: true };
  console.error(`sandbar host: no rules can be set for the network of a sandbox: ${reason}`);
  return {};
}

/** Throws where this process may not go into a network namespace. */
function enterOwn(): void {
  const own = openSync("/proc/thread-self/ns/net", "r");
  try {
    inNamespace(own, () => {});
  } finally {
    closeSync(own);
  }
}
