import type { ExitEvent } from "../contract/events.ts";
import { signalOfReturncode, type ContainerProcess } from "../contract/process.ts";
import { DEFAULT_TIMEOUT_S } from "../contract/fields.ts";
import { isLive, type Sandbox } from "../contract/sandbox.ts";
import type { EndedProcess, ProcessRecord } from "./process-record.ts";
import type { SandboxRecord } from "./store.ts";

export const isoOf = (ms: number) => new Date(ms).toISOString();

/** Lifetime in seconds, as given or by default. */
export const timeoutOf = (record: SandboxRecord): number => record.create.timeout ?? DEFAULT_TIMEOUT_S;

/** The sandbox as the API shows it. */
export function describeSandbox(record: SandboxRecord, idleExpiresAt?: number): Sandbox {
  const { create, end } = record;
  return {
    sandbox_id: record.sandboxId,
    ...(create.app_id !== undefined && { app_id: create.app_id }),
    ...(create.name !== undefined && { name: create.name }),
    state: record.state,
    image: record.image,
    backend: record.backend,
    ...(create.region !== undefined && { region: create.region }),
    ...(create.host_labels !== undefined && { host_labels: create.host_labels }),
    ...(create.workdir !== undefined && { workdir: create.workdir }),
    ...(create.gpu !== undefined && { gpu: create.gpu }),
    ...(create.cpu !== undefined && { cpu: create.cpu }),
    ...(create.memory !== undefined && { memory: create.memory }),
    ...(create.block_network !== undefined && { block_network: create.block_network }),
    ...(create.outbound_cidr_allowlist && { outbound_cidr_allowlist: create.outbound_cidr_allowlist }),
    ...(create.outbound_domain_allowlist && { outbound_domain_allowlist: create.outbound_domain_allowlist }),
    ...(create.inbound_cidr_allowlist && { inbound_cidr_allowlist: create.inbound_cidr_allowlist }),
    ...(create.tunnel_auth !== undefined && { tunnel_auth: create.tunnel_auth }),
    ...(create.egress_headers && { egress_headers: create.egress_headers }),
    ...(create.snapshot_on_end !== undefined && { snapshot_on_end: create.snapshot_on_end }),
    ...(create.secrets !== undefined && { secrets: create.secrets }),
    ...(create.volumes !== undefined && { volumes: create.volumes }),
    timeout: timeoutOf(record),
    ...(create.idle_timeout !== undefined && { idle_timeout: create.idle_timeout }),
    tags: create.tags ?? {},
    created_at: isoOf(record.createdAt),
    ...(record.startedAt !== undefined && { started_at: isoOf(record.startedAt) }),
    ...(record.readyAt !== undefined && { ready_at: isoOf(record.readyAt) }),
    ...(record.finishedAt !== undefined && { finished_at: isoOf(record.finishedAt) }),
    ...(record.startedAt !== undefined &&
      isLive(record.state) && { expires_at: isoOf(record.startedAt + timeoutOf(record) * 1000) }),
    ...(idleExpiresAt !== undefined && isLive(record.state) && { idle_expires_at: isoOf(idleExpiresAt) }),
    ...(typeof end?.returncode === "number" && { returncode: end.returncode }),
    ...(end && { finish_reason: end.finishReason }),
    ...(end?.error !== undefined && { error: end.error }),
    ...(endImageOf(record) !== undefined && { image_id: endImageOf(record) }),
  };
}

/** Where the filesystem of an ended sandbox is kept: only of one whose time was over, as was asked for. */
export function endImageOf({ end, endImageId }: SandboxRecord): string | undefined {
  return end?.finishReason === "timeout" || end?.finishReason === "idle_timeout" ? endImageId : undefined;
}

/** The process as the API shows it. */
export function describeProcess(sandboxId: string, process: ProcessRecord): ContainerProcess {
  return {
    process_id: process.processId,
    sandbox_id: sandboxId,
    command: process.command,
    created_at: isoOf(process.createdAt),
    ...outcome(process.last),
  };
}

/** How the process ended, as its event stream and its sockets tell. */
export function describeEnd({ last }: EndedProcess): ExitEvent {
  return outcome(last);
}

function outcome<Last extends ProcessRecord["last"]>({ exitedAt, ...last }: Last) {
  const signal = last.returncode === null ? undefined : signalOfReturncode(last.returncode);
  return {
    ...last,
    ...(signal !== undefined && { signal }),
    ...(exitedAt !== undefined && { exited_at: isoOf(exitedAt) }),
  };
}
