import { unsupportedFields } from "../backends/unsupported-fields.ts";
import { DEFAULT_CPU, DEFAULT_MEMORY } from "../contract/fields.ts";
import type { FieldError } from "../contract/errors.ts";
import { ANY_GPU, parseGpu } from "../contract/gpu.ts";
import type { HostInfo } from "../contract/host-info.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";
import type { Demand, HostClass } from "./policy/model.ts";
import type { PlacementRequest } from "./rpc.ts";

/** What a host says of itself, but for which it is. */
export type HostKind = Omit<HostInfo, "host_id">;

/** In the place of any volumes. */
const ANY_VOLUMES = { "/any": { volume_id: "any", read_only: false } };
/** In the place of any rules of a network: of a list matters besides whether it is empty. */
const ANY_CIDRS = ["192.0.2.0/24"];
const ANY_DOMAINS = ["any.example"];
const ANY_HEADERS = [{ domain: "any.example", header: "any", secret: "any" }];
/** Whose refusal is told, of several. */
const NEAREST = "the host that comes nearest";

type Asked = Pick<PlacementRequest, "create" | "place">;

/** What of the create hosts of this kind cannot honour, however much room they have; each with the reason. */
export function refusals({ create, place }: Asked, info: HostKind): FieldError[] {
  const { image, ...rest } = create;
  // What the registry has is no matter of what a host can pull.
  const judged = place?.source || image === undefined ? rest : { ...rest, image };
  const errors = unsupportedFields(judged, info.capabilities, NEAREST);
  for (const [label, wanted] of Object.entries(create.host_labels ?? {})) {
    const value = labelOf(info, label);
    if (value === wanted) continue;
    const message = value === undefined ? `no host has the label ${label}` : `${NEAREST} has ${label}=${value}`;
    errors.push({ path: `host_labels.${label}`, message });
  }
  return errors;
}

/** Undefined where the host has none of that name. */
export const labelOf = ({ labels = {} }: HostKind, label: string): string | undefined =>
  // A name such as `constructor` is one that every object has.
  Object.hasOwn(labels, label) ? labels[label] : undefined;

/** Whether an image of the deployment's own can start on hosts of this kind. */
export const canHave = (place: ImagePlace | undefined, info: HostKind): boolean =>
  place?.runtime === undefined || place.runtime === info.runtime;

/** The one host that has an image of the deployment's own, where it is nowhere else. */
export const onlyHostOf = (place: ImagePlace | undefined): string | undefined =>
  place && !place.source ? place.hostId : undefined;

/** Which hosts may have it. `isWarm`: they are to start it ahead. */
export function hostClassOf({ create, place }: Asked, isWarm = false): HostClass {
  const judged = { create: judgedOf({ create, place }), place };
  const onlyHost = onlyHostOf(place);
  return {
    key: JSON.stringify([judged.create, place?.runtime, place?.source !== undefined, onlyHost, isWarm]),
    onlyHost,
    admits: (info) =>
      canHave(place, info) && refusals(judged, info).length === 0 && (!isWarm || info.capabilities.warm_pools === true),
    refusal: (infos) => nearest(infos.map((info) => refusals(judged, info))),
  };
}

/** Of several refusals, the one of fewest fields. */
export function nearest(all: FieldError[][]): FieldError[] {
  return all.toSorted((a, b) => a.length - b.length)[0] ?? [];
}

/**
 * All of a create that the judgement turns on. Of most of it matters only that it is asked for. Classes are remembered, for each that
 * waits too: what users write at length, as the command of a probe, would fill the memory of all.
 */
function judgedOf({ create, place }: Asked): Asked["create"] {
  const { image, region, host_labels, volumes } = create;
  const { encrypted_ports, unencrypted_ports, readiness_probe } = create;
  const isAnywhere = place?.source !== undefined || image?.startsWith("im-");
  return {
    ...(image !== undefined && !isAnywhere && { image }),
    ...(create.cpu !== undefined && { cpu: 0 }),
    ...(create.memory !== undefined && { memory: 0 }),
    ...(create.gpu !== undefined && { gpu: ANY_GPU }),
    ...(create.pty && { pty: { rows: 1, cols: 1 } }),
    ...(region !== undefined && { region }),
    ...(host_labels && { host_labels }),
    ...judgedNetworkOf(create),
    ...(Object.keys(volumes ?? {}).length > 0 && { volumes: ANY_VOLUMES }),
    ...(encrypted_ports && { encrypted_ports }),
    ...(unencrypted_ports?.length && { unencrypted_ports: unencrypted_ports.slice(0, 1) }),
    ...(readiness_probe && "tcp" in readiness_probe && { readiness_probe }),
  };
}

function judgedNetworkOf(create: Asked["create"]): Asked["create"] {
  const { outbound_cidr_allowlist: cidrs, outbound_domain_allowlist: domains } = create;
  const { block_network, inbound_cidr_allowlist: inbound, unencrypted_ports: ports, egress_headers: headers } = create;
  return {
    ...(block_network && { block_network }),
    ...(cidrs && { outbound_cidr_allowlist: cidrs.length > 0 ? ANY_CIDRS : [] }),
    ...(domains && { outbound_domain_allowlist: domains.length > 0 ? ANY_DOMAINS : [] }),
    ...(inbound && ports?.length && { inbound_cidr_allowlist: ANY_CIDRS }),
    ...(headers?.length && { egress_headers: ANY_HEADERS }),
  };
}

/** The request as the policy takes it. */
export function demandOf(request: PlacementRequest, isWarm = false): Demand {
  const { sandboxId, environment, create, since } = request;
  const gpus = create.gpu === undefined ? [] : parseGpu(create.gpu);
  return {
    id: sandboxId,
    environment,
    cpu: create.cpu ?? DEFAULT_CPU,
    memory: create.memory ?? DEFAULT_MEMORY,
    gpus: typeof gpus === "string" ? [] : gpus,
    image: create.image ?? "",
    hosts: hostClassOf(request, isWarm),
    since,
  };
}
