import { type Engine, EngineError, type HostConfig } from "./engine.ts";
import { removeContainer } from "./removal.ts";

const REPOSITORY = "sandbar/gpu-probe";
/** There is no such program in an image without a file. */
const PROGRAM = "/none";
const CAPABILITIES = [["gpu"]];
/** The driver itself says so of a request that has both, or some tool of NVIDIA's that there is no such device. */
const SEEN_BY_DRIVER = /Count and DeviceIDs|nvidia|\bCDI\b/i;
const NO_DRIVER = /could not select device driver/i;
/** What a driver says that has no way to the devices. */
const NO_WAY = /could not select device driver|\bCDI\b/i;

/**
 * Why an engine's NVIDIA driver cannot give these devices; undefined where it can. An engine has the driver iff it found NVIDIA's hook on
 * its PATH at its own start, which its API does not show, and looks for it first at the start of a container. So containers are
 * started that cannot run: one with a request that every such driver refuses, which shows that it looks at requests at all, and one with
 * the devices. A hook that fails for other reasons in an image that holds nothing is no sign.
 */
export async function probeNvidia(
  engine: Engine,
  hostId: string,
  uuids: readonly string[],
): Promise<string | undefined> {
  const image = `${REPOSITORY}:${hostId}`;
  const refusal = async (request: object) => {
    const HostConfig: HostConfig = {
      DeviceRequests: [{ Driver: "nvidia", Capabilities: CAPABILITIES, ...request }],
      NetworkMode: "none",
    };
    const name = `sandbar-gpu-probe-${hostId}`;
    await removeContainer(engine, name);
    try {
      await engine.create({ name, Image: image, Entrypoint: [PROGRAM], HostConfig });
      await engine.start(name);
      return "";
    } catch (error) {
      if (!(error instanceof EngineError) || error.status === undefined) throw error;
      return error.message;
    } finally {
      await removeContainer(engine, name);
    }
  };
  await engine.importEmpty(REPOSITORY, hostId);
  try {
    const first = await refusal({ Count: 1, DeviceIDs: ["none"] });
    const hasDriver = SEEN_BY_DRIVER.test(first) && !NO_DRIVER.test(first);
    const second = hasDriver ? await refusal({ DeviceIDs: [...uuids] }) : first;
    if (hasDriver && !NO_WAY.test(second)) return undefined;
    const advice = "install nvidia-container-toolkit and restart the engine, then this host";
    return `the engine has no NVIDIA driver: ${advice} (${second || "it ignores the request"})`;
  } finally {
    await engine.removeImage(image, { force: true }).catch(() => undefined);
  }
}
