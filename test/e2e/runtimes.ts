import Docker from "dockerode";
import { prepareContainers } from "../containers/prepare.ts";
import type { RuntimeName } from "./instance.ts";

const hasDocker = await new Docker().ping().then(
  () => true,
  () => false,
);

/** The runtimes of this machine's host; without an engine the docker one is skipped, and it is said so. */
export const HOST_RUNTIMES: RuntimeName[] = hasDocker ? ["embedded", "docker"] : ["embedded"];

if (!hasDocker) console.warn("No Docker engine answers: the e2e tests run on the embedded runtime only.");

const containers = await prepareContainers();
if ("skipReason" in containers)
  console.warn(`The e2e tests do not run on Cloudflare Containers: ${containers.skipReason}.`);

/** Where sandboxes can run on this machine: on its host, and beside their objects. */
export const RUNTIMES: RuntimeName[] = "skipReason" in containers ? HOST_RUNTIMES : [...HOST_RUNTIMES, "cloudflare"];
