import type { FieldError } from "../contract/errors.ts";
import type { Capabilities } from "../contract/host-info.ts";
import { isCutOff } from "../contract/network.ts";
import type { SandboxCreate } from "../contract/sandbox.ts";
import { outboundOf } from "../contract/sandbox-network.ts";

/** The fields of a create that `where` (`this host`) cannot honour, each with the reason. */
export function unsupportedFields(
  create: SandboxCreate,
  capabilities: Capabilities,
  where = "this host",
): FieldError[] {
  const errors: FieldError[] = [];
  const refuse = (path: keyof SandboxCreate, message: string) => {
    if (create[path] !== undefined) errors.push({ path, message });
  };
  const { max_cpu: maxCpu = Infinity, max_memory: maxMemory = Infinity, regions, reserved_ports } = capabilities;
  if (!capabilities.cpu_limit) refuse("cpu", `${where} cannot limit cpu`);
  else if ((create.cpu ?? 0) > maxCpu) refuse("cpu", `${where} has at most ${maxCpu} cores for a sandbox`);
  if (!capabilities.memory_limit) refuse("memory", `${where} cannot limit memory`);
  else if ((create.memory ?? 0) > maxMemory) refuse("memory", `${where} has at most ${maxMemory} MiB for a sandbox`);
  if (!capabilities.gpu) refuse("gpu", `${where} has no GPU`);
  if (!capabilities.pty) refuse("pty", `${where} has no terminals`);
  const outbound = outboundOf(create);
  if (outbound && !(isCutOff({ outbound }) ? capabilities.block_network : capabilities.network_rules)) {
    if (create.block_network) refuse("block_network", `${where} cannot block the network`);
    refuse("outbound_cidr_allowlist", `${where} cannot limit what a sandbox connects to`);
    refuse("outbound_domain_allowlist", `${where} cannot limit what a sandbox connects to`);
  }
  if (!capabilities.network_rules && create.unencrypted_ports?.length)
    refuse("inbound_cidr_allowlist", `${where} cannot limit who connects to a published port`);
  if (!capabilities.egress_headers && create.egress_headers?.length)
    refuse("egress_headers", `${where} cannot add to what a sandbox sends`);
  if (!capabilities.volumes && create.volumes && Object.keys(create.volumes).length > 0)
    refuse("volumes", `${where} cannot mount volumes`);
  if (!regions) refuse("region", `${where} is in no region that it could be asked for by`);
  else if (create.region !== undefined && !regions.includes(create.region))
    refuse("region", `${where} has the regions ${regions.join(", ")}`);
  if (!capabilities.raw_tcp && create.unencrypted_ports?.length)
    refuse("unencrypted_ports", `${where} publishes no raw TCP ports`);
  const reserved = create.encrypted_ports?.find((port) => reserved_ports?.includes(port));
  const probe = create.readiness_probe;
  if (probe && "tcp" in probe && reserved_ports?.includes(probe.tcp.port))
    refuse("readiness_probe", `${where} needs port ${probe.tcp.port} itself`);
  if (reserved !== undefined) refuse("encrypted_ports", `${where} needs port ${reserved} itself`);
  const image = create.image;
  if (capabilities.images && image !== undefined && !image.startsWith("im-") && !capabilities.images.includes(image)) {
    refuse("image", `${where} runs ${capabilities.images.join(", ")} and snapshots of it, nothing else`);
  }
  return errors;
}
