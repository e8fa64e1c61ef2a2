import { z } from "zod";
import {
  CommandSchema,
  LabelsSchema,
  NameSchema,
  PathSchema,
  PortSchema,
  RegionSchema,
  TagsSchema,
  TimeoutSchema,
} from "./fields.ts";
import { GpuSchema } from "./gpu.ts";
import { idSchema } from "./ids.ts";
import { CidrsSchema } from "./cidr.ts";
import { DomainPatternsSchema, EgressHeaderSchema, EgressHeadersSchema, TUNNEL_AUTHS } from "./network.ts";
import { TerminalSizeSchema } from "./process.ts";
import { SandboxEnvSchema } from "./sandbox-env.ts";
import { headersOutOfReach } from "./sandbox-network.ts";
import { VolumesSchema, VolumeUseSchema } from "./volume-mount.ts";

export const SANDBOX_STATES = ["created", "scheduled", "started", "ready", "finished", "terminated"] as const;
export type SandboxState = (typeof SANDBOX_STATES)[number];

/** Why a sandbox ended. */
export const FINISH_REASONS = [
  "exited",
  "signaled",
  "oom",
  "terminated",
  "timeout",
  "idle_timeout",
  "start_failed",
  "no_capacity",
  "host_lost",
] as const;
export type FinishReason = (typeof FINISH_REASONS)[number];

export const BACKENDS = ["docker", "cloudflare"] as const;
export type BackendName = (typeof BACKENDS)[number];

/** True when the sandbox is ready: the TCP port accepts a connection, or the command exits with 0. */
export const ReadinessProbeSchema = z.union([
  z.strictObject({ tcp: z.strictObject({ port: PortSchema }), interval_ms: z.int().min(10).max(60_000).default(100) }),
  z.strictObject({
    exec: z.strictObject({ command: CommandSchema }),
    interval_ms: z.int().min(10).max(60_000).default(100),
  }),
]);
export type ReadinessProbe = z.infer<typeof ReadinessProbeSchema>;

const MAX_PORTS = 32;
const PortsSchema = z
  .array(PortSchema)
  .max(MAX_PORTS)
  .refine((ports) => new Set(ports).size === ports.length, "must not name a port twice");

/** Of one sandbox. */
const MAX_SECRETS = 20;

export const MAX_CPU = 1024;
/** MiB. The engine starts nothing below the lower bound. */
export const MIN_MEMORY_MIB = 8;
export const MAX_MEMORY_MIB = 16_777_216;

const ImageSchema = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[A-Za-z0-9][A-Za-z0-9._:/@-]*$/, "must be an image id or reference");

/** Whether it says where the sandbox may connect to. */
const namesOutbound = (fields: { outbound_cidr_allowlist?: unknown; outbound_domain_allowlist?: unknown }) =>
  Boolean(fields.outbound_cidr_allowlist ?? fields.outbound_domain_allowlist);

export const SandboxCreateSchema = z
  .strictObject({
    app_id: z.string().min(1).max(128).optional(),
    image: ImageSchema.optional(),
    entrypoint: CommandSchema.optional(),
    cpu: z.number().min(0.01).max(MAX_CPU).optional().meta({ description: "Cores; also the limit." }),
    memory: z.int().min(MIN_MEMORY_MIB).max(MAX_MEMORY_MIB).optional().meta({ description: "MiB; also the limit." }),
    gpu: GpuSchema.optional(),
    timeout: TimeoutSchema.optional().meta({ description: "Seconds of lifetime from the start; 300 if left out." }),
    idle_timeout: TimeoutSchema.optional().meta({ description: "Seconds without activity; off if left out." }),
    encrypted_ports: PortsSchema.optional(),
    unencrypted_ports: PortsSchema.optional(),
    tags: TagsSchema.optional(),
    name: NameSchema.optional(),
    env: SandboxEnvSchema.optional(),
    secrets: z
      .array(NameSchema)
      .max(MAX_SECRETS)
      .optional()
      .meta({ description: "By id or name: their variables, later ones over earlier, `env` over all of them." }),
    volumes: VolumesSchema.optional().meta({ description: "What is mounted where, by absolute path." }),
    workdir: PathSchema.optional(),
    readiness_probe: ReadinessProbeSchema.optional(),
    backend: z.enum(BACKENDS).optional().meta({ description: "The deployment's default if left out." }),
    region: RegionSchema.optional().meta({
      description: "Where to run: a region of the hosts, or on Cloudflare a location hint such as `weur`.",
    }),
    host_labels: LabelsSchema.optional().meta({ description: "Runs on a host that has all of these labels." }),
    block_network: z.boolean().optional().meta({
      description: "Lets the sandbox connect to nothing. Its own ports are reached all the same.",
    }),
    outbound_cidr_allowlist: CidrsSchema.optional().meta({
      description:
        "The only addresses that the sandbox may connect to, besides those that `outbound_domain_allowlist` leads to; `[]`: none.",
    }),
    outbound_domain_allowlist: DomainPatternsSchema.optional().meta({
      description:
        "The only domains that the sandbox may connect to, by TLS or HTTP, besides the addresses of `outbound_cidr_allowlist`; `[]`: none. `*.example.com` is `example.com` and all below.",
    }),
    inbound_cidr_allowlist: CidrsSchema.optional().meta({
      description: "The only addresses from which the sandbox's ports are reached; `[]`: none. Anybody's if left out.",
    }),
    tunnel_auth: z.enum(TUNNEL_AUTHS).optional().meta({
      description:
        "`token`: the encrypted ports are reached with a token of `POST …/connect-tokens` only. `none` if left out.",
    }),
    egress_headers: EgressHeadersSchema.optional().meta({
      description: "Headers with a secret in them, added to the sandbox's HTTPS requests to a domain on their way out.",
    }),
    snapshot_on_end: z.boolean().optional().meta({
      description: "Keeps the filesystem when the sandbox ends by `timeout` or `idle_timeout`: see `image_id`.",
    }),
    pty: TerminalSizeSchema.optional().meta({ description: "Runs the entrypoint on a terminal of this size." }),
  })
  .refine((create) => !create.pty || create.entrypoint, {
    path: ["pty"],
    message: "must come with an entrypoint, which it is for",
  })
  .refine((create) => !create.block_network || !namesOutbound(create), {
    path: ["block_network"],
    message: "must not come with a list of what the sandbox may connect to",
  })
  .superRefine((create, context) => {
    for (const at of headersOutOfReach(create)) {
      const message = "must be a domain that the sandbox may connect to";
      context.addIssue({ code: "custom", path: ["egress_headers", at, "domain"], message });
    }
  })
  .refine((create) => !create.encrypted_ports?.some((port) => create.unencrypted_ports?.includes(port)), {
    path: ["unencrypted_ports"],
    message: "must not name a port of encrypted_ports",
  })
  .meta({ id: "SandboxCreate" });
export type SandboxCreate = z.infer<typeof SandboxCreateSchema>;

/** A change of a sandbox. What is left out stays as it is. */
export const SandboxPatchSchema = z
  .strictObject({
    tags: TagsSchema.optional().meta({ description: "Takes the place of all tags." }),
    timeout: TimeoutSchema.optional().meta({
      description: "Seconds of lifetime from the start. When they are over already, the sandbox ends now.",
    }),
    idle_timeout: TimeoutSchema.nullable()
      .optional()
      .meta({ description: "Seconds without activity, which begin anew; null for none." }),
    name: NameSchema.optional().meta({ description: "Of a sandbox that has none yet." }),
    block_network: z.boolean().optional().meta({
      description:
        "True takes the lists of what the sandbox may connect to away, and lets it connect to nothing; false, or such a list, lifts that.",
    }),
    outbound_cidr_allowlist: CidrsSchema.nullable()
      .optional()
      .meta({ description: "Takes the place of the list; null for none. What it forbids is cut." }),
    outbound_domain_allowlist: DomainPatternsSchema.nullable()
      .optional()
      .meta({ description: "Takes the place of the list; null for none. What it forbids is cut." }),
    inbound_cidr_allowlist: CidrsSchema.nullable()
      .optional()
      .meta({ description: "Takes the place of the list; null for none. New connections only." }),
  })
  .refine((patch) => !patch.block_network || !namesOutbound(patch), {
    path: ["block_network"],
    message: "must not come with a list of what the sandbox may connect to",
  })
  .meta({ id: "SandboxPatch" });
export type SandboxPatch = z.infer<typeof SandboxPatchSchema>;

/** What can be waited for. */
export const WAIT_FOR = ["ready", "ended"] as const;
export type WaitFor = (typeof WAIT_FOR)[number];

const DateTimeSchema = z.iso.datetime();

/** A sandbox as the API shows it. What has no value is left out. */
export const SandboxSchema = z
  .object({
    sandbox_id: idSchema("sandbox"),
    app_id: z.string().optional(),
    name: z.string().optional(),
    state: z.enum(SANDBOX_STATES),
    image: z.string(),
    backend: z.enum(BACKENDS),
    region: z.string().optional(),
    host_labels: z.record(z.string(), z.string()).optional(),
    workdir: z.string().optional(),
    gpu: z.string().optional(),
    cpu: z.number().optional(),
    memory: z.int().optional(),
    block_network: z.boolean().optional(),
    outbound_cidr_allowlist: z.array(z.string()).optional(),
    outbound_domain_allowlist: z.array(z.string()).optional(),
    inbound_cidr_allowlist: z.array(z.string()).optional(),
    tunnel_auth: z.enum(TUNNEL_AUTHS).optional(),
    egress_headers: z.array(EgressHeaderSchema).optional(),
    snapshot_on_end: z.boolean().optional(),
    timeout: z.int(),
    idle_timeout: z.int().optional(),
    secrets: z.array(idSchema("secret")).optional(),
    volumes: z.record(z.string(), VolumeUseSchema).optional(),
    tags: z.record(z.string(), z.string()),
    created_at: DateTimeSchema,
    started_at: DateTimeSchema.optional(),
    ready_at: DateTimeSchema.optional(),
    finished_at: DateTimeSchema.optional(),
    expires_at: DateTimeSchema.optional(),
    idle_expires_at: DateTimeSchema.optional(),
    returncode: z.int().optional(),
    finish_reason: z.enum(FINISH_REASONS).optional(),
    error: z.string().optional(),
    image_id: idSchema("image")
      .optional()
      .meta({ description: "The image that `snapshot_on_end` has made, or is making, of the ended sandbox." }),
  })
  .meta({ id: "Sandbox" });
export type Sandbox = z.infer<typeof SandboxSchema>;

export const SandboxPageSchema = z.object({ data: z.array(SandboxSchema), next_cursor: z.string().optional() });
export type SandboxPage = z.infer<typeof SandboxPageSchema>;

/** True while the sandbox may still run something. */
export function isLive(state: SandboxState): boolean {
  return state !== "finished" && state !== "terminated";
}

/** How one port of a sandbox is reached. */
export const TunnelSchema = z.object({ host: z.string(), port: PortSchema, url: z.url() }).meta({ id: "Tunnel" });
export type Tunnel = z.infer<typeof TunnelSchema>;

export const TunnelsSchema = z.record(z.string(), TunnelSchema);
