import { unsupported, type ApiError } from "../../contract/errors.ts";
import type { Capabilities } from "../../contract/host-info.ts";
import { AGENT_PORT } from "./agent/program.ts";
import { MAX_CPU, MAX_MEMORY_MIB } from "./instance-types.ts";

/** Where an object, and the container beside it, can be asked to be: the platform's location hints. */
const REGIONS = [
  "wnam",
  "enam",
  "sam",
  "weur",
  "eeur",
  "apac",
  "oc",
  "afr",
  "me",
] satisfies DurableObjectLocationHint[];

/** What Cloudflare Containers can do. Which images there are, each deployment says for itself. */
export const CLOUDFLARE_CAPABILITIES: Capabilities = {
  cpu_limit: true,
  memory_limit: true,
  gpu: false,
  raw_tcp: false,
  exec_user: true,
  pty: true,
  block_network: true,
  max_cpu: MAX_CPU,
  max_memory: MAX_MEMORY_MIB,
  regions: REGIONS,
  reserved_ports: [AGENT_PORT],
};

/** The image of a sandbox that names none. */
export const DEFAULT_IMAGE = "base";

/** The refusal of other rules for a container that is there, or is being made. */
export const fixedNetwork = (): ApiError =>
  unsupported("network", "Cloudflare Containers keep the network that they start with");
