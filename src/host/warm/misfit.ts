import { isDeepStrictEqual } from "node:util";
import type { StartSpec, WarmSpec } from "../../contract/host-protocol.ts";

/** What a container keeps from how it was made. */
const MADE_OF = {
  environment: (spec) => spec.environment,
  image: (spec) => spec.image,
  image_source: (spec) => spec.image_source?.digest,
  cpu: (spec) => spec.cpu,
  memory: (spec) => spec.memory,
  gpus: (spec) => spec.gpus?.toSorted(),
  workdir: (spec) => spec.workdir,
} satisfies Record<string, (spec: Omit<WarmSpec, "warm_id">) => unknown>;

/** The field of the sandbox's spec for which a container made from the other cannot be its; undefined where it fits. */
export function misfit(warm: WarmSpec, spec: StartSpec): string | undefined {
  // The engine publishes ports only of what it makes.
  if (spec.raw_ports.length > 0) return "raw_ports";
  return Object.entries(MADE_OF).find(([, part]) => !isDeepStrictEqual(part(warm), part(spec)))?.[0];
}
