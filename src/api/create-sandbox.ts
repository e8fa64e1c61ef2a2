import { unsupportedFields } from "../backends/unsupported-fields.ts";
import {
  CLOUDFLARE_CAPABILITIES,
  DEFAULT_IMAGE as DEFAULT_CONTAINER_IMAGE,
} from "../backends/cloudflare/capabilities.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import { newId } from "../contract/ids.ts";
import { BACKENDS, type BackendName, type Sandbox, type SandboxCreate } from "../contract/sandbox.ts";
import { unsupported } from "../placement/admission.ts";
import { openPlacement } from "../placement/client.ts";
import { placingFields, type Admission } from "../placement/rpc.ts";
import type { CreateInput } from "../sandbox/rpc.ts";
import type { Env } from "./env.ts";
import { findImage } from "./find-image.ts";
import { withSecretIds } from "./find-secrets.ts";
import { withVolumeIds } from "./find-volumes.ts";
import { requireMadeFor } from "./made-elsewhere.ts";
import { claimName, releaseName } from "./name-claim.ts";
import { describeIfThere, openSandbox } from "./sandbox-client.ts";

/** What a create decides by itself. */
export interface CreatePlan {
  sandboxId: string;
}

export const newCreatePlan = (): CreatePlan => ({ sandboxId: newId("sandbox") });

/** An image may be named as it was pushed, with this API's own host name before it. */
export function withOwnReference<Create extends { image?: string | undefined }>(create: Create, host: string): Create {
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
  asked: SandboxCreate,
  { sandboxId }: CreatePlan,
  isFirst: boolean,
): Promise<Sandbox> {
  const before = isFirst ? undefined : await describeIfThere(env, environment, sandboxId);
  if (before) return before;
  const [found, { secrets, egress_headers: egressHeaders }, { volumes }] = await Promise.all([
    findImage(env, environment, asked.image),
    withSecretIds(env, environment, asked),
    withVolumeIds(env, environment, asked),
  ]);
  const create = {
    ...asked,
    ...(secrets && { secrets }),
    ...(egressHeaders && { egress_headers: egressHeaders }),
    ...(volumes && { volumes }),
  };
  const backend = create.backend ?? found?.backend ?? defaultBackend(env);
  if (found) requireMadeFor(found.backend, backend);
  const place = found?.place;
  const begin = ({ image, place: host }: Admission) =>
    makeObject(env, { sandboxId, environment, create: { ...create, image }, backend, place, host });
  if (backend === "cloudflare") return begin({ image: imageOnCloudflare(create) });
  const placement = openPlacement(env);
  const request = { sandboxId, environment, create: placingFields(create), place, since: Date.now() };
  try {
    return await begin(await placement.admit(request));
  } catch (error) {
    // Without an answer of its own the object may be there all the same, or another request by the same plan has made it: it uses its place.
    if (asApiError(error)) await releaseUnmade(env, environment, sandboxId).catch(() => undefined);
    throw error;
  }
}

async function releaseUnmade(env: Env, environment: string, sandboxId: string): Promise<void> {
  if (!(await describeIfThere(env, environment, sandboxId))) await openPlacement(env).release(sandboxId);
}

async function makeObject(env: Env, input: CreateInput): Promise<Sandbox> {
  const { sandboxId, environment, create } = input;
  const name = create.name === undefined ? undefined : { environment, appId: create.app_id, name: create.name };
  if (name) await claimName(env, name, sandboxId);
  try {
    return await openSandbox(env, sandboxId, locationOf(create)).create(input);
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

/** Where its object is to be: near its container, where the region is one of the platform's. */
function locationOf({ region }: SandboxCreate): string | undefined {
  return region !== undefined && CLOUDFLARE_CAPABILITIES.regions?.includes(region) ? region : undefined;
}

/** Throws what containers on Cloudflare cannot honour. */
function imageOnCloudflare(create: SandboxCreate): string {
  const errors = unsupportedFields(create, CLOUDFLARE_CAPABILITIES, "Cloudflare Containers");
  if (create.host_labels) errors.push({ path: "host_labels", message: "Cloudflare Containers have no labels" });
  if (errors.length > 0) throw unsupported(errors);
  return create.image ?? DEFAULT_CONTAINER_IMAGE;
}
