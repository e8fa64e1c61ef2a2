import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { missingForSecondEngine, SecondEngine } from "../e2e/second-engine.ts";
import { IMAGE, noEngine } from "./docker-host.ts";
import type { StandInGpus } from "./stand-in-gpus.ts";

const run = promisify(execFile);

/** Why this machine can have no engine that takes it for one with GPUs; undefined where it can. */
export const noGpuEngine = noEngine ?? missingForSecondEngine();

/** An engine of its own, started where it finds NVIDIA's hook. It has the image of the tests, and one whose variables ask for all devices. */
export async function startGpuEngine(gpus: StandInGpus): Promise<SecondEngine> {
  const engine = await SecondEngine.start(gpus.env);
  try {
    await run("sh", ["-c", `docker save ${IMAGE} | docker -H unix://${engine.socketPath} load`]);
    const scratch = await engine.docker.createContainer({ Image: IMAGE, Cmd: ["true"] });
    const [repo, tag] = GREEDY_IMAGE.split(":");
    await scratch.commit({ repo, tag, changes: "ENV NVIDIA_VISIBLE_DEVICES=all" });
    await scratch.remove();
    return engine;
  } catch (error) {
    await engine.remove();
    throw error;
  }
}

export const GREEDY_IMAGE = "greedy:latest";
