import { z } from "zod";
import { CommandSchema, EnvSchema, PathSchema, PortSchema } from "./fields.ts";
import { GpuUuidSchema } from "./gpu.ts";
import { idSchema, ProcessIdSchema } from "./ids.ts";
import { DigestSchema } from "./registry.ts";
import { NetworkPolicySchema } from "./network.ts";
import { VolumeMountSchema } from "./volume-mount.ts";
import { ExecRequestSchema, PROCESS_FINISH_REASONS, TerminalSizeSchema } from "./process.ts";

/**
 * What the control plane and a `sandbar host` say to each other. Every request is signed (see
 * `host-token.ts`); errors are problem documents of the one error table.
 *
 * | call to the host                                       | body → answer                      |
 * | ------------------------------------------------------ | ---------------------------------- |
 * | `GET    /v1/info`                                      | → HostInfo                         |
 * | `PUT    /v1/sandboxes/{id}`                            | StartSpec → StartResult            |
 * | `GET    /v1/sandboxes/{id}`                            | → ContainerStatus                  |
 * | `DELETE /v1/sandboxes/{id}?generation=`                | → 204; spares a newer generation   |
 * | `PUT    /v1/sandboxes/{id}/deadline`                   | Deadline → 204                     |
 * | `PUT    /v1/sandboxes/{id}/network`                    | NetworkUpdate → 204, once it holds |
 * | `POST   /v1/sandboxes/{id}/processes?wait_ms=`         | ExecSpec → ProcessStatus           |
 * | `GET    /v1/sandboxes/{id}/processes`                  | → ProcessStatus[]                  |
 * | `GET    /v1/sandboxes/{id}/processes/{pid}?wait_ms=`   | → ProcessStatus                    |
 * | `POST   /v1/sandboxes/{id}/processes/{pid}/signal`     | {signal} → 204                     |
 * | `GET    …/processes/{pid}/stdout?offset=&follow=`      | → bytes                            |
 * | `GET    …/processes/{pid}/events?stdout=&stderr=`      | → event stream, from these offsets |
 * | `POST   …/processes/{pid}/stdin?offset=&eof=`          | bytes → StdinState                 |
 * | `POST   …/processes/{pid}/resize`                      | TerminalSize → 204                 |
 * | `POST   …/processes/{pid}/attachments`                 | AttachSpec → 204, once the host has dialled back: see `attach.ts` |
 * | `GET    /v1/sandboxes/{id}/files?path=`                | → bytes; `x-sandbar-size`; `Range` |
 * | `PUT    /v1/sandboxes/{id}/files?path=&mode=&size=`    | bytes → 204; `end_marker=` instead of `size=`: see `end-marker.ts`                        |
 * | `GET    /v1/sandboxes/{id}/files/stat?path=`           | → FileInfo                         |
 * | `GET    /v1/sandboxes/{id}/files/list?path=&depth=&limit=&after=` | → FileList              |
 * | `POST   /v1/sandboxes/{id}/files/directories`          | DirectoryRequest → FileInfo        |
 * | `POST   /v1/sandboxes/{id}/files/move`                 | MoveRequest → 204                  |
 * | `DELETE /v1/sandboxes/{id}/files?path=&recursive=`     | → 204                              |
 * | `GET    /v1/sandboxes/{id}/files/watch?path=&recursive=` | → event stream: see `file.ts`    |
 * | `GET    /v1/sandboxes/{id}/files/archive?path=`        | → tar                              |
 * | `PUT    /v1/sandboxes/{id}/files/archive?path=&size=`  | tar → 204; `end_marker=` instead of `size=` |
 * | `POST   /v1/sandboxes/{id}/volumes/commit`             | VolumesOrder → VolumeCommit[]      |
 * | `POST   /v1/sandboxes/{id}/volumes/reload`             | VolumesOrder → VolumeReload[]      |
 * | `POST   /v1/sandboxes/{id}/snapshots/{imageId}?wait_ms=` | SnapshotSpec → SnapshotStatus    |
 * | `GET    /v1/sandboxes/{id}/ports/{port}`               | → {open}                           |
 * | `ANY    /v1/sandboxes/{id}/ports/{port}/proxy`         | any request; target in `x-sandbar-target` |
 * | `PUT    /v1/sandboxes/{id}/ports/{port}/bodies/{uuid}` | → 101, then the body of such a request: see `body-apart.ts` |
 * | `DELETE /v1/images/{imageId}`                          | → 204                              |
 *
 * A request to a port says in `x-sandbar-host`, `x-sandbar-protocol` and `x-sandbar-client` how and from which address it was called.
 * A problem in place of an app's answer has `x-sandbar-problem`, its code.
 *
 * And to the control plane: `POST /v1/hosts/{hostId}/report` with a HostReport → HostOrders (see `host-report.ts`).
 */

/** Where the control plane's registry has an image, and the grant to pull it. */
export const ImageSourceSchema = z.strictObject({ repository: z.string(), digest: DigestSchema, token: z.string() });
export type ImageSource = z.infer<typeof ImageSourceSchema>;

/** Everything a container is made from. */
export const StartSpecSchema = z.strictObject({
  sandbox_id: idSchema("sandbox"),
  environment: z.string(),
  /** Counts the starts of this sandbox; a result of an older one is dropped. */
  generation: z.int().min(1),
  image: z.string(),
  /** Of an image in the control plane's registry; left out for one that is on this host, or anywhere else. */
  image_source: ImageSourceSchema.optional(),
  entrypoint: CommandSchema.optional(),
  env: EnvSchema,
  workdir: PathSchema.optional(),
  cpu: z.number().optional(),
  memory: z.int().optional(),
  /** The devices that are this container's alone, by UUID. */
  gpus: z.array(GpuUuidSchema).min(1).optional(),
  raw_ports: z.array(PortSchema),
  /** Left out: it may connect to all that a sandbox may, and anybody to its published ports. */
  network: NetworkPolicySchema.optional(),
  volumes: z.array(VolumeMountSchema).min(1).optional(),
  /** The warm container that is to become this sandbox's; where it is gone one is started as ever. */
  warm: idSchema("warm").optional(),
  /** Warm containers that make room: they are gone before this one starts. */
  evict: z.array(idSchema("warm")).optional(),
  /** The terminal of the entrypoint. */
  pty: TerminalSizeSchema.optional(),
  /** The host ends the container by itself so many milliseconds after its start, with or without the control plane. */
  lifetime_ms: z.int().min(0),
  /** The id under which the filesystem is kept when the host ends the container at its lifetime. */
  end_image: idSchema("image").optional(),
});
export type StartSpec = z.infer<typeof StartSpecSchema>;

/** A container that is started ahead of the sandbox whose it will be. No user has had it, and one at most ever will. */
export const WarmSpecSchema = StartSpecSchema.pick({
  environment: true,
  image: true,
  image_source: true,
  cpu: true,
  memory: true,
  gpus: true,
  workdir: true,
}).extend({ warm_id: idSchema("warm") });
export type WarmSpec = z.infer<typeof WarmSpecSchema>;

/** How a warm container is. `failed` is one that cannot start, with the reason. */
export const WarmStatusSchema = z.object({
  warm_id: idSchema("warm"),
  state: z.enum(["starting", "ready", "failed"]),
  error: z.string().max(2000).optional(),
});
export type WarmStatus = z.infer<typeof WarmStatusSchema>;

/**
 * When a container that runs is to be ended by its host: so many milliseconds from now, since clocks differ. Of two that
 * overtake each other the one of the higher `revision` counts.
 */
export const DeadlineSchema = z.strictObject({
  generation: z.int().min(1),
  revision: z.int().min(1),
  remaining_ms: z.int().min(0),
});
export type Deadline = z.infer<typeof DeadlineSchema>;

/** Other rules for the network of a container that runs. Of two that overtake each other the one of the higher `revision` counts. */
export const NetworkUpdateSchema = z.strictObject({
  generation: z.int().min(1),
  revision: z.int().min(1),
  policy: NetworkPolicySchema,
});
export type NetworkUpdate = z.infer<typeof NetworkUpdateSchema>;

export const StartResultSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.enum(["launched", "adopted"]), published_ports: z.record(z.string(), PortSchema) }),
  z.object({ kind: z.literal("failed"), error: z.string() }),
]);
export type StartResult = z.infer<typeof StartResultSchema>;

/** How a container ended. `deadline` is true when the host ended it at its deadline. */
export const ContainerExitSchema = z.object({ returncode: z.int(), oom: z.boolean(), deadline: z.boolean() });
export type ContainerExit = z.infer<typeof ContainerExitSchema>;

export const ContainerStatusSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("gone") }),
  /**
   * `busy`: an exec'd process runs, a file is under way or a connection to a port is open.
   * `idle_ms`: how long ago that was last so, 0 while it is; the entrypoint's own work and probes do not count.
   */
  z.object({ kind: z.literal("running"), generation: z.int(), busy: z.boolean(), idle_ms: z.int().min(0) }),
  z.object({ kind: z.literal("exited"), generation: z.int(), exit: ContainerExitSchema }),
]);
export type ContainerStatus = z.infer<typeof ContainerStatusSchema>;

const { user, pty, open_stdin, stdout, stderr } = ExecRequestSchema.shape;

export const ExecSpecSchema = z.strictObject({
  process_id: ProcessIdSchema,
  command: CommandSchema,
  env: EnvSchema,
  workdir: PathSchema.optional(),
  /** base64 */
  stdin: z.string().optional(),
  /** Milliseconds until the process group is killed. */
  timeout_ms: z.int().min(1).optional(),
  /** A reader of its whole output is on its way: the process waits for it at the window. */
  is_followed: z.boolean().optional(),
  /** A readiness probe: no use of the sandbox, and forgotten once it has ended. */
  is_probe: z.boolean().optional(),
  user,
  pty,
  open_stdin,
  stdout,
  stderr,
});
export type ExecSpec = z.infer<typeof ExecSpecSchema>;

/** A process as the host knows it; the output is inline (base64) in answers that waited for its end. */
export const ProcessStatusSchema = z.object({
  process_id: ProcessIdSchema,
  returncode: z.int().nullable(),
  timed_out: z.boolean(),
  finish_reason: z.enum(PROCESS_FINISH_REASONS).optional(),
  exited_at: z.int().optional(),
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
  output: z
    .object({ stdout: z.string(), stderr: z.string(), stdout_truncated: z.boolean(), stderr_truncated: z.boolean() })
    .optional(),
});
export type ProcessStatus = z.infer<typeof ProcessStatusSchema>;

/** Where the control plane's registry takes an image, and the grant to push it. */
export const ImageTargetSchema = z.strictObject({ repository: z.string(), tag: z.string(), token: z.string() });
export type ImageTarget = z.infer<typeof ImageTargetSchema>;

/**
 * A snapshot to be made. One id is one snapshot: asked for again, what was made is not made anew, and what failed is taken up
 * where it was.
 */
export const SnapshotSpecSchema = z.strictObject({
  generation: z.int().min(1),
  /** Ends the container once its filesystem is kept. */
  stop: z.boolean(),
  /** Left out: the image stays on this host. */
  target: ImageTargetSchema.optional(),
});
export type SnapshotSpec = z.infer<typeof SnapshotSpecSchema>;

/** `size`: bytes on this machine. `uploaded_bytes`: what was sent to the registry for it. */
export const SnapshotStatusSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("running") }),
  z.object({ kind: z.literal("done"), size: z.int(), uploaded_bytes: z.int() }),
]);
export type SnapshotStatus = z.infer<typeof SnapshotStatusSchema>;
