import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { type Engine, EngineError } from "./engine.ts";

const NETWORK = "sandbar";
const BRIDGE = "sandbar0";
/** Link-local addresses: where clouds keep a machine's credentials. */
const METADATA_ADDRESSES = "169.254.0.0/16";
const ATTEMPTS = 5;
const RETRY_MS = 200;
const IPTABLES_TIMEOUT_MS = 10_000;

/**
 * The network of every sandbox on this engine: a bridge on which containers do not reach each other and, where this
 * daemon may set the machine's filter, not the cloud's metadata either. Made once; several daemons share it. Answers its name.
 */
export async function requireNetwork(engine: Engine): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    if (await engine.hasNetwork(NETWORK)) break;
    try {
      await engine.createNetwork({
        Name: NETWORK,
        Driver: "bridge",
        CheckDuplicate: true,
        Options: { "com.docker.network.bridge.enable_icc": "false", "com.docker.network.bridge.name": BRIDGE },
      });
      break;
    } catch (error) {
      // Another daemon may be making it at this moment.
      if (!(error instanceof EngineError) || error.status === undefined || attempt === ATTEMPTS) throw error;
      await new Promise((wake) => setTimeout(wake, RETRY_MS));
    }
  }
  await blockMetadata();
  return NETWORK;
}

/** `DOCKER-USER` is the chain that Docker leaves to the machine's owner, asked before its own. */
async function blockMetadata(): Promise<void> {
  const rule = ["DOCKER-USER", "-i", BRIDGE, "-d", METADATA_ADDRESSES, "-j", "DROP"];
  const run = (action: string) =>
    promisify(execFile)("iptables", ["-w", "5", action, ...rule], { timeout: IPTABLES_TIMEOUT_MS });
  try {
    await run("-C").catch(() => run("-I"));
  } catch (error) {
    const reason = String((error as { stderr?: string }).stderr ?? "").trim() || String(error);
    console.error(`sandbar host: sandboxes can reach ${METADATA_ADDRESSES}: iptables cannot be set here (${reason})`);
  }
}
