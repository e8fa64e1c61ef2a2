import Docker from "dockerode";
import type { RuntimeName } from "./instance.ts";

const hasDocker = await new Docker().ping().then(
  () => true,
  () => false,
);

/** The runtimes of this machine; without an engine the docker one is skipped, and it is said so. */
export const RUNTIMES: RuntimeName[] = hasDocker ? ["embedded", "docker"] : ["embedded"];

if (!hasDocker) console.warn("No Docker engine answers: the e2e tests run on the embedded runtime only.");
