import { type Engine, EngineError } from "./engine.ts";
import { keepBridgeFiltered } from "./machine-filter.ts";

const NETWORK = "sandbar";
const BRIDGE = "sandbar0";
const ATTEMPTS = 5;
const RETRY_MS = 200;

/**
 * The network of every sandbox on this engine: a bridge on which containers do not reach each other and, where this
 * daemon may set the machine's filter, neither the machine itself nor the cloud's metadata. Made once; several daemons share it. Answers its name.
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
  await keepBridgeFiltered(BRIDGE);
  return NETWORK;
}
