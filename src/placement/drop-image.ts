import { HostClient } from "../backends/docker/host-client.ts";
import { locateHost } from "./find-hosts.ts";

/**
 * Removes a snapshot from the host that holds it. A host that is not connected cannot be asked: its copy
 * stays there, and nothing can start from it once the catalog has forgotten it.
 */
export async function dropImage(
  env: { DB: D1Database; SIGNING_SECRET: string },
  image: { imageId: string; hostId: string },
): Promise<void> {
  const host = await locateHost(env.DB, image.hostId);
  if (host) await new HostClient(host, env.SIGNING_SECRET).run("DELETE", `/v1/images/${image.imageId}`);
}
