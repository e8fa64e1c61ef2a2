import type { Backend, HostPlacement, Placement } from "./backend.ts";
import { CloudflareBackend } from "./cloudflare/cloudflare-backend.ts";
import { ContainerHost, type ObjectOfContainer } from "./cloudflare/container-host.ts";
import { DockerBackend } from "./docker/docker-backend.ts";
import { ApiError } from "../contract/errors.ts";

/**
 * Opens the backend of a sandbox where it was placed: the one place that names the concrete backends. `relocate`: how its host is
 * reached now, where that changed since.
 */
export type OpenBackend = (
  sandboxId: string,
  generation: number,
  placement: Placement,
  relocate: () => Promise<HostPlacement | undefined>,
) => Backend;

/** `object` is what the container beside the object needs of it. Without a container there is nothing on Cloudflare. */
export function backendOpener(
  signingSecret: string,
  object: Omit<ObjectOfContainer, "container"> & { container: Container | undefined },
): OpenBackend {
  const { container } = object;
  let host: ContainerHost | undefined;
  return (sandboxId, generation, placement, relocate) => {
    if (placement.kind === "host") return new DockerBackend(sandboxId, generation, placement, signingSecret, relocate);
    if (!container) {
      throw new ApiError("backend_unavailable", {
        detail: "This deployment has no containers any more.",
        retryAfter: 60,
      });
    }
    host ??= new ContainerHost({ ...object, container });
    return new CloudflareBackend(host, generation, placement.snapshotId);
  };
}
