import { HostClient } from "../backends/docker/host-client.ts";
import { openPlacement, type PlacementBinding } from "./client.ts";

/**
 * Removes a snapshot from the host that holds it. A host that is not connected cannot be asked: its copy
 * stays there, and nothing can start from it once the catalog has forgotten it. The same goes for one of Cloudflare's,
 * which the platform lets nobody delete.
 */
export async function dropImage(
  env: PlacementBinding & { SIGNING_SECRET: string },
  image: { imageId: string; hostId: string | null },
): Promise<void> {
  const host = image.hostId === null ? undefined : await openPlacement(env).locate(image.hostId);
  if (host) await new HostClient(host, env.SIGNING_SECRET).run("DELETE", `/v1/images/${image.imageId}`);
}
