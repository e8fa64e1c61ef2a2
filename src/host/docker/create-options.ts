import type { StartSpec, WarmSpec } from "../../contract/host-protocol.ts";
import type { Bind } from "../runtime.ts";
import type { ContainerCreateOptions } from "./engine.ts";
import type { GpuSettings } from "./gpus.ts";
import { hardenedHostConfig } from "./hardening.ts";
import { LABELS } from "./labels.ts";
import { BUSYBOX, CONTROL_MOUNT, LAUNCHER_COMMAND, TOOLS_MOUNT } from "./tools.ts";

const IDLE_SECONDS = "2147483647";

/** A container that is started ahead: one without anything that is only its sandbox's. */
export interface WarmBuild extends WarmSpec {
  env: Record<string, string>;
  raw_ports: number[];
  entrypoint?: undefined;
  pty?: undefined;
}

/** What a container is made from: a sandbox's, or one that is to become a sandbox's. */
export type BuildSpec = StartSpec | WarmBuild;

/** An image brings labels of its own along: those that mean something when they are there are set, so that it has no say. */
const NOT_THE_IMAGES = { [LABELS.warm]: "", [LABELS.launcher]: "", [LABELS.endImage]: "", [LABELS.entrypoint]: "" };

/** How a container is to be made. */
export interface Plan {
  name: string;
  spec: BuildSpec;
  /** Of the image, as the engine names it. */
  reference: string;
  hostId: string;
  network: string;
  gpus: GpuSettings;
  /** Its volumes. */
  binds: readonly Bind[];
  limitFiles: boolean;
  /** Where the tools lie, where the engine can see them. */
  tools: string | undefined;
  /** The control directory of the launcher that is to be its first process. */
  controlDir: string | undefined;
}

/** What the container's first process is, the init apart. */
export function firstProcess({ spec, tools, controlDir }: Pick<Plan, "spec" | "tools" | "controlDir">): string[] {
  if (controlDir !== undefined) return LAUNCHER_COMMAND;
  return spec.entrypoint ?? (tools ? [BUSYBOX, "sleep", IDLE_SECONDS] : ["sleep", "infinity"]);
}

export function createOptions(plan: Plan): ContainerCreateOptions {
  const { spec, tools, controlDir } = plan;
  const ports = spec.raw_ports.map((port) => `${port}/tcp`);
  const mounts = { [TOOLS_MOUNT]: tools, [CONTROL_MOUNT]: controlDir };
  return {
    name: plan.name,
    Image: plan.reference,
    // All of it as the entrypoint: the image's own ENTRYPOINT and CMD have no say.
    Entrypoint: firstProcess(plan),
    Cmd: [],
    Healthcheck: { Test: ["NONE"] },
    Env: Object.entries({ ...spec.env, ...plan.gpus.env }).map(([name, value]) => `${name}=${value}`),
    ...(spec.workdir ? { WorkingDir: spec.workdir } : {}),
    Labels: {
      [LABELS.host]: plan.hostId,
      [LABELS.environment]: spec.environment,
      ...NOT_THE_IMAGES,
      ...(controlDir !== undefined && { [LABELS.launcher]: "true" }),
      ...ownerLabels(spec),
    },
    ExposedPorts: Object.fromEntries(ports.map((port) => [port, {}])),
    HostConfig: {
      ...hardenedHostConfig(spec, { limitFiles: plan.limitFiles }),
      ...(plan.gpus.requests.length > 0 && { DeviceRequests: plan.gpus.requests }),
      // Reaps what the entrypoint leaves and passes signals on. A launcher reaps by itself.
      Init: controlDir === undefined,
      NetworkMode: plan.network,
      // An empty number lets the engine choose a free one.
      PortBindings: Object.fromEntries(ports.map((port) => [port, [{ HostPort: "" }]])),
      Mounts: [
        ...Object.entries(mounts).flatMap(([Target, Source]) =>
          Source === undefined ? [] : [{ Type: "bind" as const, Source, Target, ReadOnly: true }],
        ),
        ...plan.binds.map(({ source, path, readOnly }) => ({
          Type: "bind" as const,
          Source: source,
          Target: path,
          ReadOnly: readOnly,
          BindOptions: { Propagation: "rprivate" as const },
        })),
      ],
    },
  };
}

/** Whose it is. */
function ownerLabels(spec: BuildSpec): Record<string, string> {
  if ("warm_id" in spec) return { [LABELS.warm]: spec.warm_id };
  return {
    [LABELS.sandbox]: spec.sandbox_id,
    [LABELS.generation]: String(spec.generation),
    [LABELS.deadline]: String(Date.now() + spec.lifetime_ms),
    ...(spec.end_image !== undefined && { [LABELS.endImage]: spec.end_image }),
    ...(spec.entrypoint && { [LABELS.entrypoint]: "true" }),
  };
}
