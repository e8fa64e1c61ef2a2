import { OpenAPIHono } from "@hono/zod-openapi";
import { invalidRequest } from "../contract/invalid-request.ts";
import { handleRegistry } from "../registry/handle.ts";
import { isRegistryPath } from "../registry/path.ts";
import { handleVolumeSync, isVolumeSyncPath } from "../volumes/handle.ts";
import type { ApiEnv, Env } from "./env.ts";
import { authenticate } from "./authenticate.ts";
import { docsPage } from "./docs-page.ts";
import { checkJsonBody } from "./json-body.ts";
import { openapiDocument } from "./openapi.ts";
import { problemResponse } from "./problems.ts";
import { requestId } from "./request-id.ts";
import { matchRoute } from "./route-table.ts";
import { registerConnectTokens } from "./routes/connect-tokens.ts";
import { registerExec } from "./routes/exec.ts";
import { registerFileArchive } from "./routes/files-archive.ts";
import { registerFileTree } from "./routes/files-tree.ts";
import { registerFileWatch } from "./routes/files-watch.ts";
import { registerFiles } from "./routes/files.ts";
import { registerFork } from "./routes/fork.ts";
import { registerHostAttachment } from "./routes/host-attachment.ts";
import { registerHostReport } from "./routes/host-report.ts";
import { registerHosts } from "./routes/hosts.ts";
import { registerImages } from "./routes/images.ts";
import { registerKeys } from "./routes/keys.ts";
import { registerPools } from "./routes/pools.ts";
import { registerProcessEvents } from "./routes/process-events.ts";
import { registerProcessInput } from "./routes/process-input.ts";
import { registerProcessOutput } from "./routes/process-output.ts";
import { registerProcesses } from "./routes/processes.ts";
import { registerSandboxVolumes } from "./routes/sandbox-volumes.ts";
import { registerSandboxes } from "./routes/sandboxes.ts";
import { registerSecrets } from "./routes/secrets.ts";
import { registerSockets } from "./routes/sockets.ts";
import { registerSandboxEvents } from "./routes/sandbox-events.ts";
import { registerSnapshot } from "./routes/snapshot.ts";
import { registerTunnels } from "./routes/tunnels.ts";
import { registerVolumeFiles } from "./routes/volume-files.ts";
import { registerVolumes } from "./routes/volumes.ts";
import { registerWait } from "./routes/wait.ts";
import { proxyTunnel, tunnelDomain, tunnelTarget } from "./tunnel.ts";

const BASE_PATH = "/v1";

const WHERE = {
  json: "body",
  query: "query",
  param: "path",
  header: "header",
  form: "body",
  cookie: "cookie",
} as const;

/** The HTTP API: `/v1`, and beside it its documentation. */
export function createApp(): OpenAPIHono<ApiEnv> {
  const v1 = new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (!result.success) throw invalidRequest(result.error, WHERE[result.target]);
    },
  });
  registerSandboxes(v1);
  registerWait(v1);
  registerSandboxEvents(v1);
  registerExec(v1);
  registerProcesses(v1);
  registerProcessOutput(v1);
  registerProcessEvents(v1);
  registerProcessInput(v1);
  registerSockets(v1);
  registerFiles(v1);
  registerFileTree(v1);
  registerFileWatch(v1);
  registerFileArchive(v1);
  registerSnapshot(v1);
  registerFork(v1);
  registerTunnels(v1);
  registerConnectTokens(v1);
  registerImages(v1);
  registerKeys(v1);
  registerSecrets(v1);
  registerVolumes(v1);
  registerVolumeFiles(v1);
  registerSandboxVolumes(v1);
  registerPools(v1);
  registerHosts(v1);
  registerHostReport(v1);
  registerHostAttachment(v1);

  const app = new OpenAPIHono<ApiEnv>();
  app.use(requestId, matchRoute(v1, BASE_PATH), authenticate, checkJsonBody);
  app.route(BASE_PATH, v1);
  app.get("/health", (c) => c.json({ status: "ok" }));
  app.get("/openapi.json", (c) => c.json(openapiDocument(v1, BASE_PATH)));
  app.get("/docs", docsPage);
  app.onError((error, c) => problemResponse(error, c.get("requestId")));
  return app;
}

const app = createApp();

/** Every request to the Worker: one to a sandbox's own host name, one to the registry of images, one of a host for a volume, or one to the API. */
export async function handle(request: Request, env: Env, ctx: ExecutionContext): Promise<Response> {
  const { hostname, pathname } = new URL(request.url);
  const target = tunnelTarget(hostname, tunnelDomain(env));
  const failed = (error: unknown) => problemResponse(error, crypto.randomUUID());
  if (target) return proxyTunnel(request, env, target);
  if (isRegistryPath(pathname)) return handleRegistry(request, env, ctx);
  return isVolumeSyncPath(pathname) ? handleVolumeSync(request, env).catch(failed) : app.fetch(request, env, ctx);
}
