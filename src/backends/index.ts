import type { Backend } from "./backend.ts";
import { DockerBackend } from "./docker/docker-backend.ts";
import type { HostAddress } from "./docker/host-client.ts";

/** Opens the backend of a sandbox where it was placed: the one place that names the concrete backends. */
export type OpenBackend = (sandboxId: string, generation: number, placement: HostAddress) => Backend;

export function backendOpener(signingSecret: string): OpenBackend {
  return (sandboxId, generation, placement) => new DockerBackend(sandboxId, generation, placement, signingSecret);
}
