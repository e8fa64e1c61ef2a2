import { unsupportedFields } from "../backends/backend.ts";
import {
  CLOUDFLARE_CAPABILITIES,
  DEFAULT_IMAGE as DEFAULT_CONTAINER_IMAGE,
} from "../backends/cloudflare/capabilities.ts";
import { HostCatalog, type AliveHost } from "../catalog/hosts.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import { newId } from "../contract/ids.ts";
import { BACKENDS, type BackendName, type Sandbox, type SandboxCreate } from "../contract/sandbox.ts";
import { canHave } from "../placement/find-places.ts";
import type { ImagePlace } from "../sandbox/rpc.ts";
import type { Env } from "./env.ts";
import { findImage } from "./find-image.ts";
import { claimName, releaseName } from "./name-claim.ts";
import { describeIfThere, openSandbox } from "./sandbox-client.ts";

/** The image of a create that names none, where neither the deployment nor a host has a default. */
const FALLBACK_IMAGE = "debian:bookworm-slim";
/** What a create decides by itself. */
export interface CreatePlan {
  sandboxId: string;
}

export const newCreatePlan = (): CreatePlan => ({ sandboxId: newId("sandbox") });

/** An image may be named as it was pushed, with this API's own host name before it. */
export function withOwnReference(create: SandboxCreate, host: string): SandboxCreate {
  const own = `${host}/`;
  return create.image?.startsWith(own) ? { ...create, image: create.image.slice(own.length) } : create;
}

/**
 * Checks that the sandbox can run, fills in what was left out, and makes its object. Unless it is the first that goes by its
 * plan, the sandbox may be there already.
 */
export async function createSandbox(
  env: Env,
  environment: string,
  create: SandboxCreate,
  { sandboxId }: CreatePlan,
  isFirst: boolean,
): Promise<Sandbox> {
  const before = isFirst ? undefined : await describeIfThere(env, environment, sandboxId);
  if (before) return before;
  const found = await findImage(env, environment, create.image);
  const backend = create.backend ?? found?.backend ?? defaultBackend(env);
  if (found && found.backend !== backend) throw madeElsewhere(found.backend, backend);
  const image = await imageOf(env, create, backend, found?.place);
  const input = { sandboxId, environment, create: { ...create, image }, backend, place: found?.place };
  const name = create.name === undefined ? undefined : { environment, appId: create.app_id, name: create.name };
  if (name) await claimName(env, name, sandboxId);
  try {
    return await openSandbox(env, sandboxId, create.region).create(input);
  } catch (error) {
    // Without an answer of its own the object may be there all the same, and have the name.
    if (name && asApiError(error)) await releaseName(env, name, sandboxId);
    throw error;
  }
}

function defaultBackend({ DEFAULT_BACKEND: wanted = "docker" }: Env): BackendName {
  const backend = BACKENDS.find((name) => name === wanted);
  if (backend) return backend;
  throw new ApiError("internal", {
    detail: `DEFAULT_BACKEND of this deployment must be one of ${BACKENDS.join(", ")}.`,
  });
}

function madeElsewhere(made: BackendName, wanted: BackendName): ApiError {
  return new ApiError("image_elsewhere", {
    detail: `The image is for the backend ${made}; it does not start on ${wanted}.`,
  });
}

/** The image that the sandbox starts from. Throws what the backend cannot honour. */
async function imageOf(
  env: Env,
  create: SandboxCreate,
  backend: BackendName,
  place: ImagePlace | undefined,
): Promise<string> {
  if (backend === "cloudflare") {
    const errors = unsupportedFields(create, CLOUDFLARE_CAPABILITIES, "Cloudflare Containers");
    if (errors.length > 0) throw unsupported(errors);
    return create.image ?? DEFAULT_CONTAINER_IMAGE;
  }
  const image = create.image ?? env.DEFAULT_IMAGE;
  const { image: _, ...rest } = create;
  // What the registry has is no matter of what a host can pull.
  const wanted = image === undefined || place?.source ? rest : { ...rest, image };
  const alive = await new HostCatalog(env.DB).alive(Date.now());
  const able = ableHosts(wanted, holdersOf(place, alive));
  return image ?? defaultImage(able);
}

/** Where the image can be: anywhere, on hosts of its runtime, or on the one host that made it. */
function holdersOf(place: ImagePlace | undefined, alive: AliveHost[]): AliveHost[] {
  const holders = alive.filter((host) => canHave(place, host));
  // A host may come for what any of its kind can have.
  if (!place || holders.length > 0 || (place.source && alive.length === 0)) return holders;
  const detail = place.source
    ? `The image is for hosts of the runtime ${place.runtime}, and none of them is connected.`
    : `The snapshot is on the host ${place.hostId}, which is not connected; it starts nowhere else.`;
  throw new ApiError("image_elsewhere", { detail });
}

/**
 * The hosts that can honour every field. When there are hosts and none can, that is refused here; when
 * no host is there, the sandbox waits for one.
 */
function ableHosts(create: SandboxCreate, hosts: AliveHost[]): AliveHost[] {
  const judged = hosts.map((host) => ({ host, errors: unsupportedFields(create, host.info.capabilities) }));
  const able = judged.filter(({ errors }) => errors.length === 0);
  if (judged.length > 0 && able.length === 0) {
    const [nearest] = judged.toSorted((a, b) => a.errors.length - b.errors.length);
    throw unsupported(nearest!.errors);
  }
  return able.map(({ host }) => host);
}

function unsupported(errors: { path: string; message: string }[]): ApiError {
  const detail = errors.map(({ path, message }) => `${path}: ${message}`).join("; ");
  return new ApiError("unsupported_by_backend", { detail: `${detail}.`, errors });
}

/** A host with a container engine goes before one without. */
function defaultImage(hosts: AliveHost[]): string {
  const host = hosts.find(({ info }) => info.runtime === "docker") ?? hosts[0];
  return host?.info.default_image ?? FALLBACK_IMAGE;
}
