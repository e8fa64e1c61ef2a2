import { ApiError, type FieldError } from "../contract/errors.ts";
import { ANY_GPU, KNOWN_GPU_TYPES, parseGpu } from "../contract/gpu.ts";
import type { Inventory } from "./inventory.ts";
import { canHave, hostClassOf, labelOf, nearest, onlyHostOf, refusals, type HostKind } from "./judge.ts";
import type { PlacementRequest } from "./rpc.ts";

/** The image of a create that names none, where neither the deployment nor a host has a default. */
const FALLBACK_IMAGE = "debian:bookworm-slim";

type Asked = Pick<PlacementRequest, "create" | "place">;

export interface AdmissionOptions {
  inventory: Inventory;
  /** The deployment's own default. */
  defaultImage: string | undefined;
  /** A host that is silent for longer has gone. */
  hostLostAfterMs: number;
  /** Whether it is a warm container that is to be started ahead. */
  isWarm?: boolean;
}

/**
 * The image that a new sandbox starts from. Throws `unsupported_by_backend` where none of the hosts that there are can honour it,
 * and `image_elsewhere` where none of them can have the image. Where there are no hosts it waits for one.
 */
export function imageFor(asked: Asked, options: AdmissionOptions, now: number): string {
  const { inventory, defaultImage, hostLostAfterMs, isWarm = false } = options;
  requireKnownGpus(asked, inventory);
  const image = asked.create.image ?? defaultImage;
  const all = inventory.kinds(hostLostAfterMs, now);
  if (all.length === 0) return image ?? FALLBACK_IMAGE;
  const holders = holdersOf(asked, all, inventory, now);
  const create = image === undefined ? asked.create : { ...asked.create, image };
  const { admits } = hostClassOf({ ...asked, create }, isWarm);
  const able = holders.find((kind) => admits(kind));
  if (able) return image ?? able.default_image;
  const errors = nearest(holders.map((kind) => refusals({ ...asked, create }, kind)));
  if (errors.length > 0) throw unsupported(errors.map((error) => withWhatThereIs(error, holders)));
  const detail = "No host that is connected keeps containers ready.";
  throw new ApiError("unsupported_by_backend", { detail, errors: [{ path: "size", message: detail }] });
}

/** A type that neither everybody knows nor any host has is a slip, also where others of a preference would do. */
function requireKnownGpus({ create: { gpu } }: Asked, inventory: Inventory): void {
  const wishes = gpu === undefined ? [] : parseGpu(gpu);
  if (typeof wishes === "string") return;
  const known = new Set<string>([...KNOWN_GPU_TYPES, ANY_GPU, ...inventory.gpuTypes()]);
  const unknown = wishes.filter(({ type }) => !known.has(type)).map(({ type }) => type);
  if (unknown.length === 0) return;
  const there = inventory.gpuTypes();
  const types = [...(there.size > 0 ? there : KNOWN_GPU_TYPES)].toSorted().join(", ");
  const message = `no host has ${unknown.join(", ")}; ${there.size > 0 ? "there are" : "types are"} ${types}`;
  throw unsupported([{ path: "gpu", message }]);
}

export function unsupported(errors: FieldError[]): ApiError {
  const detail = errors.map(({ path, message }) => `${path}: ${message}`).join("; ");
  return new ApiError("unsupported_by_backend", { detail: `${detail}.`, errors });
}

/** Where the image can be: anywhere, on hosts of its runtime, or on the one host that made it. */
function holdersOf({ place }: Asked, kinds: HostKind[], inventory: Inventory, now: number): HostKind[] {
  const only = onlyHostOf(place);
  if (only !== undefined) {
    const kind = inventory.isConnected(only, now) ? inventory.kindOf(only) : undefined;
    if (kind) return [kind];
    const detail = `The snapshot is on the host ${only}, which is not connected; it starts nowhere else.`;
    throw new ApiError("image_elsewhere", { detail });
  }
  const holders = kinds.filter((kind) => canHave(place, kind));
  if (holders.length > 0) return holders;
  const detail = `The image is for hosts of the runtime ${place?.runtime}, and none of them is connected.`;
  throw new ApiError("image_elsewhere", { detail });
}

/** What one host has is told by its own refusal; what the others have, too, is told here. */
function withWhatThereIs(error: FieldError, kinds: HostKind[]): FieldError {
  if (error.path === "region") {
    const regions = new Set(kinds.flatMap(({ capabilities }) => capabilities.regions ?? []));
    if (regions.size > 0) return { ...error, message: `there are hosts in ${[...regions].toSorted().join(", ")}` };
  }
  const label = /^host_labels\.(.+)$/.exec(error.path)?.[1];
  if (label === undefined) return error;
  const values = new Set(kinds.flatMap((kind) => labelOf(kind, label) ?? []));
  if (values.size === 0) return error;
  return { ...error, message: `there are hosts with ${[...values].map((value) => `${label}=${value}`).join(", ")}` };
}
