import type { TestProject } from "vitest/node";
import { prepareContainers } from "../containers/prepare.ts";
import { ContainerWorker } from "./container-worker.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Where the Worker of `worker.ts` answers; undefined where this machine runs no containers. */
    containerWorker: string | undefined;
  }
}

/** Starts `wrangler dev` with real containers on this machine's engine. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const containers = await prepareContainers();
  if ("skipReason" in containers) {
    console.warn(`The suite of the Cloudflare backend is skipped: ${containers.skipReason}.`);
    project.provide("containerWorker", undefined);
    return async () => undefined;
  }
  const worker = await ContainerWorker.start(containers.env);
  project.provide("containerWorker", worker.url);
  return () => worker.stop();
}
