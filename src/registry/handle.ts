import { requireAccess } from "./access.ts";
import { answerBlob, deleteBlob } from "./blob-routes.ts";
import { BlobStore } from "./blob-store.ts";
import { environmentOfCaller, identify, type CallerEnv } from "./caller.ts";
import { openRegistry, type RegistryBinding } from "./client.ts";
import { errorResponse } from "./error-response.ts";
import { RegistryError } from "./errors.ts";
import { answerCatalog, answerReferrers, answerTags } from "./list-routes.ts";
import { answerManifest, deleteManifest, putManifest } from "./manifest-routes.ts";
import { parsePath, type Target, type TargetOf } from "./path.ts";
import { answerUpload, appendToUpload, beginUpload, cancelUpload, completeUpload } from "./upload-routes.ts";
import type { Visit } from "./visit.ts";

/** What the registry is bound to. */
export interface RegistryHandlerEnv extends CallerEnv, RegistryBinding {
  SNAPSHOTS: R2Bucket;
}

type Method = "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE";
type Routes = {
  [Kind in Target["kind"]]: Partial<Record<Method, (visit: Visit, target: TargetOf<Kind>) => Promise<Response>>>;
};

const answerBase = async (): Promise<Response> => Response.json({});

const ROUTES: Routes = {
  base: { GET: answerBase, HEAD: answerBase },
  catalog: { GET: answerCatalog },
  blob: { GET: answerBlob, HEAD: answerBlob, DELETE: deleteBlob },
  uploads: { POST: beginUpload },
  upload: { GET: answerUpload, PATCH: appendToUpload, PUT: completeUpload, DELETE: cancelUpload },
  manifest: { GET: answerManifest, HEAD: answerManifest, PUT: putManifest, DELETE: deleteManifest },
  tags: { GET: answerTags },
  referrers: { GET: answerReferrers },
};

/** Answers a request to `/v2`: the OCI Distribution API. */
export async function handleRegistry(
  request: Request,
  env: RegistryHandlerEnv,
  ctx: ExecutionContext,
): Promise<Response> {
  const isHead = request.method === "HEAD";
  const answer = route(request, env).catch((error: unknown) => errorResponse(error, isHead));
  // What has come of an upload is still written down when its client has gone.
  ctx.waitUntil(answer);
  const response = await answer;
  response.headers.set("docker-distribution-api-version", "registry/2.0");
  return response;
}

async function route(request: Request, env: RegistryHandlerEnv): Promise<Response> {
  const caller = await identify(env, request.headers.get("authorization"));
  const { pathname, searchParams: query } = new URL(request.url);
  const target = parsePath(pathname);
  if (!target) throw new RegistryError("PATH_UNKNOWN");
  requireAccess(caller, target, request.method);
  const routes = ROUTES[target.kind] as Partial<Record<string, (visit: Visit, target: Target) => Promise<Response>>>;
  const run = Object.hasOwn(routes, request.method) ? routes[request.method] : undefined;
  if (!run) throw new RegistryError("METHOD_UNSUPPORTED", { headers: { allow: Object.keys(routes).join(", ") } });
  const environment = environmentOfCaller(caller);
  const registry = openRegistry(env, environment);
  return run({ request, query, environment, registry, store: new BlobStore(env.SNAPSHOTS) }, target);
}
