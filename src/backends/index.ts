import type { Backend, Placement } from "./backend.ts";
import { CloudflareBackend } from "./cloudflare/cloudflare-backend.ts";
import { ContainerHost, type ObjectOfContainer } from "./cloudflare/container-host.ts";
import { DockerBackend } from "./docker/docker-backend.ts";
import { ApiError } from "../contract/errors.ts";

/** Opens the backend of a sandbox where it was placed: the one place that names the concrete backends. */
export type OpenBackend = (sandboxId: string, generation: number, placement: Placement) => Backend;

/** `object` is what the container beside the object needs of it. Without a container there is nothing on Cloudflare. */
export function backendOpener(
  signingSecret: string,
  object: Omit<ObjectOfContainer, "container"> & { container: Container | undefined },
): OpenBackend {
  const { container } = object;
  let host: ContainerHost | undefined;
  return (sandboxId, generation, placement) => {
    if (placement.kind === "host") return new DockerBackend(sandboxId, generation, placement, signingSecret);
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
