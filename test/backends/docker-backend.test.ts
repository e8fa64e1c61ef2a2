import { inject } from "vitest";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { describeBackend } from "./contract.ts";

const address = inject("outside");
/** Whoever connects to the address is told something at once. A connection that a gate has taken is not yet one to there. */
const reach = ["bash", "-c", `exec 3<>/dev/tcp/${address}/8080 && read -rt 5 line <&3 && test -n "$line"`];

// In workerd, through its own fetch, against the hosts that real-hosts.ts has started.
for (const host of inject("realHosts")) {
  describeBackend({
    name: `docker, on a host with the ${host.runtime} runtime`,
    image: host.image,
    hasFixedNetwork: !host.hasRules,
    ...(address !== undefined && { outside: { address, reach } }),
    open: (sandboxId) => new DockerBackend(sandboxId, 1, host, inject("signingSecret")),
  });
}
