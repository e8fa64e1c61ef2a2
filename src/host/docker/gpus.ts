import { GPU_VARIABLE } from "../../contract/gpu.ts";
import type { Engine, EngineInfo, HostConfig } from "./engine.ts";
import { probeNvidia } from "./gpu-probe.ts";

type DeviceRequest = NonNullable<HostConfig["DeviceRequests"]>[number];

/** `nvidia`: by the hook of NVIDIA's container toolkit. `cdi`: by the engine itself, from a description that the toolkit has written. */
type GpuDriver = "nvidia" | "cdi";

const CDI_KIND = "nvidia.com/gpu=";
const NOTHING = "void";

/** What a container is made with so that it has its devices, and no others. */
export interface GpuSettings {
  env: Record<string, string>;
  requests: DeviceRequest[];
}

/** How this engine gives containers GPUs. */
export class DockerGpus {
  readonly #engine: Engine;
  readonly #hostId: string;
  #driver: GpuDriver = "nvidia";
  /** Whether an image's own variables might get a container devices here. */
  #arePresent: boolean;

  constructor(engine: Engine, hostId: string, info: EngineInfo) {
    this.#engine = engine;
    this.#hostId = hostId;
    this.#arePresent = "nvidia" in (info.Runtimes ?? {}) || cdiUuids(info).length > 0;
  }

  /**
   * Why the engine cannot give containers these devices of this machine; undefined where it can. `SANDBAR_GPUS=on` takes the operator's
   * word for it, `off` gives none.
   */
  async whyNot(uuids: readonly string[]): Promise<string | undefined> {
    this.#arePresent = true;
    const wanted = process.env["SANDBAR_GPUS"];
    if (wanted === "off") return "SANDBAR_GPUS is off";
    const listed = new Set(cdiUuids(await this.#engine.info()));
    this.#driver = uuids.every((uuid) => listed.has(uuid)) ? "cdi" : "nvidia";
    if (wanted === "on" || this.#driver === "cdi") return undefined;
    return probeNvidia(this.#engine, this.#hostId, uuids);
  }

  /**
   * What `NVIDIA_VISIBLE_DEVICES` says counts under a runtime of NVIDIA's that is the engine's default, also in an image: it is always
   * set here. What a process is started with later has no say in it.
   */
  settings(uuids: readonly string[] = []): GpuSettings {
    if (uuids.length === 0) return { env: this.#arePresent ? { [GPU_VARIABLE]: NOTHING } : {}, requests: [] };
    if (this.#driver === "cdi") {
      const request = { Driver: "cdi", DeviceIDs: uuids.map((uuid) => `${CDI_KIND}${uuid}`) };
      return { env: { [GPU_VARIABLE]: NOTHING }, requests: [request] };
    }
    const request = { Driver: "nvidia", DeviceIDs: [...uuids], Capabilities: [["gpu"]] };
    return { env: { [GPU_VARIABLE]: uuids.join(",") }, requests: [request] };
  }
}

/** The devices that a container has, as it was made: unlike its labels, an image has no say in that. */
export function gpusOf({ DeviceRequests }: Pick<HostConfig, "DeviceRequests">): string[] {
  const ids = (DeviceRequests ?? []).flatMap((request) => request.DeviceIDs ?? []);
  return ids.map((id) => (id.startsWith(CDI_KIND) ? id.slice(CDI_KIND.length) : id));
}

function cdiUuids({ DiscoveredDevices }: EngineInfo): string[] {
  const found = (DiscoveredDevices ?? []).filter(({ Source, ID }) => Source === "cdi" && ID.startsWith(CDI_KIND));
  return found.map(({ ID }) => ID.slice(CDI_KIND.length));
}
