import { inject } from "vitest";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { describeBackend } from "./contract.ts";

// In workerd, through its own fetch, against the hosts that real-hosts.ts has started.
for (const host of inject("realHosts")) {
  describeBackend({
    name: `docker, on a host with the ${host.runtime} runtime`,
    image: host.image,
    open: (sandboxId) => new DockerBackend(sandboxId, 1, host, inject("signingSecret")),
  });
}
