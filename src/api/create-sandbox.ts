import { unsupportedFields } from "../backends/backend.ts";
import {
  CLOUDFLARE_CAPABILITIES,
  DEFAULT_IMAGE as DEFAULT_CONTAINER_IMAGE,
} from "../backends/cloudflare/capabilities.ts";
import { HostCatalog, type AliveHost } from "../catalog/hosts.ts";
import { ImageCatalog, type ImageRow } from "../catalog/images.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import { newId } from "../contract/ids.ts";
import { BACKENDS, type BackendName, type Sandbox, type SandboxCreate } from "../contract/sandbox.ts";
import type { Env } from "./env.ts";
import { claimName, releaseName } from "./name-claim.ts";
import { describeIfThere, openSandbox } from "./sandbox-client.ts";

/** The image of a create that names none, where neither the deployment nor a host has a default. */
const FALLBACK_IMAGE = "debian:bookworm-slim";
/** What a create decides by itself. */
export interface CreatePlan {
  sandboxId: string;
}

export const newCreatePlan = (): CreatePlan => ({ sandboxId: newId("sandbox") });

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
  const snapshot = await findSnapshot(env, environment, create.image);
  const backend = create.backend ?? snapshot?.backend ?? defaultBackend(env);
  if (snapshot && snapshot.backend !== backend) throw madeElsewhere(snapshot, backend);
  const input = {
    sandboxId,
    environment,
    create: { ...create, image: await imageOf(env, create, backend, snapshot) },
    backend,
    imageHostId: snapshot?.hostId ?? undefined,
    imageSnapshotId: snapshot?.snapshotId ?? undefined,
  };
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

/** The snapshot `im-…`; undefined for any other image. */
async function findSnapshot(env: Env, environment: string, image: string | undefined): Promise<ImageRow | undefined> {
  if (!image?.startsWith("im-")) return undefined;
  const found = await new ImageCatalog(env.DB).find(environment, image, Date.now());
  if (!found) throw new ApiError("image_not_found", { detail: `There is no image ${image}.` });
  return found;
}

function madeElsewhere(snapshot: ImageRow, backend: BackendName): ApiError {
  const detail = `The snapshot was made on the backend ${snapshot.backend}; it does not start on ${backend}.`;
  return new ApiError("image_elsewhere", { detail });
}

/** The image that the sandbox starts from. Throws what the backend cannot honour. */
async function imageOf(
  env: Env,
  create: SandboxCreate,
  backend: BackendName,
  snapshot: ImageRow | undefined,
): Promise<string> {
  if (backend === "cloudflare") {
    const errors = unsupportedFields(create, CLOUDFLARE_CAPABILITIES, "Cloudflare Containers");
    if (errors.length > 0) throw unsupported(errors);
    return create.image ?? DEFAULT_CONTAINER_IMAGE;
  }
  const image = create.image ?? env.DEFAULT_IMAGE;
  const wanted = image === undefined ? create : { ...create, image };
  const alive = await new HostCatalog(env.DB).alive(Date.now());
  const able = ableHosts(wanted, holdersOf(snapshot?.hostId ?? undefined, alive));
  return image ?? defaultImage(able);
}

/** Where the image is: anywhere, or for a snapshot on the one host that made it. */
function holdersOf(imageHostId: string | undefined, alive: AliveHost[]): AliveHost[] {
  if (imageHostId === undefined) return alive;
  const holders = alive.filter(({ hostId }) => hostId === imageHostId);
  if (holders.length > 0) return holders;
  const detail = `The snapshot is on the host ${imageHostId}, which is not connected; it starts nowhere else.`;
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
