import { unsupportedFields } from "../backends/backend.ts";
import {
  CLOUDFLARE_CAPABILITIES,
  DEFAULT_IMAGE as DEFAULT_CONTAINER_IMAGE,
} from "../backends/cloudflare/capabilities.ts";
import { HostCatalog, type AliveHost } from "../catalog/hosts.ts";
import { ImageCatalog, type ImageRow } from "../catalog/images.ts";
import { NameCatalog, type SandboxName } from "../catalog/names.ts";
import { ApiError, hasCode } from "../contract/errors.ts";
import { newId } from "../contract/ids.ts";
import { BACKENDS, isLive, type BackendName, type Sandbox, type SandboxCreate } from "../contract/sandbox.ts";
import type { Env } from "./env.ts";
import { openSandbox } from "./sandbox-client.ts";

/** The image of a create that names none, where neither the deployment nor a host has a default. */
const FALLBACK_IMAGE = "debian:bookworm-slim";
/** A name whose holder does not exist is free after this: its create died on the way. */
const NAME_CLAIM_GRACE_MS = 60_000;

/** Checks that the sandbox can run, fills in what was left out, and makes its object. */
export async function createSandbox(env: Env, environment: string, create: SandboxCreate): Promise<Sandbox> {
  const snapshot = await findSnapshot(env, environment, create.image);
  const backend = create.backend ?? snapshot?.backend ?? defaultBackend(env);
  if (snapshot && snapshot.backend !== backend) throw madeElsewhere(snapshot, backend);
  const input = {
    sandboxId: newId("sandbox"),
    environment,
    create: { ...create, image: await imageOf(env, create, backend, snapshot) },
    backend,
    imageHostId: snapshot?.hostId ?? undefined,
    imageSnapshotId: snapshot?.snapshotId ?? undefined,
  };
  const names = new NameCatalog(env.DB);
  if (create.name !== undefined) {
    await claimName(env, names, { environment, appId: create.app_id, name: create.name }, input.sandboxId);
  }
  try {
    return await openSandbox(env, input.sandboxId, create.region).create(input);
  } catch (error) {
    if (create.name !== undefined) await names.releaseName(input.sandboxId);
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

async function claimName(env: Env, names: NameCatalog, name: SandboxName, sandboxId: string): Promise<void> {
  const claim = await names.claimName(name, sandboxId, Date.now());
  if (claim.kind === "claimed") return;
  const isFree = await isHolderGone(env, name.environment, claim.sandboxId, claim.claimedAt);
  if (isFree && (await names.takeOver(name, claim.sandboxId, sandboxId, Date.now()))) return;
  throw new ApiError("name_taken", { detail: `\`${name.name}\` is the name of ${claim.sandboxId}.` });
}

/** Asks the object itself: the catalog may lag behind it. */
async function isHolderGone(env: Env, environment: string, sandboxId: string, claimedAt: number): Promise<boolean> {
  try {
    const holder = await openSandbox(env, sandboxId).describe({ environment });
    return !isLive(holder.state);
  } catch (error) {
    if (!hasCode(error, "sandbox_not_found")) throw error;
    return Date.now() - claimedAt > NAME_CLAIM_GRACE_MS;
  }
}
