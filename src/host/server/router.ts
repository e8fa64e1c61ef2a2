import { z } from "zod";
import { ApiError } from "../../contract/errors.ts";
import { idSchema, ProcessIdSchema } from "../../contract/ids.ts";
import { getArchive, putArchive } from "./archive-routes.ts";
import {
  getContainer,
  getInfo,
  probePort,
  removeImage,
  setDeadline,
  setNetwork,
  startContainer,
  stopContainer,
  takeSnapshot,
} from "./container-routes.ts";
import { getFile, putFile } from "./file-routes.ts";
import {
  attachProcess,
  exec,
  getProcess,
  listProcesses,
  readEvents,
  readOutput,
  resizeProcess,
  signalProcess,
  writeStdin,
} from "./process-routes.ts";
import { proxyRequest, proxyUpgrade, takeBody } from "./proxy-routes.ts";
import type { Handler, UpgradeHandler } from "./route.ts";
import { deleteFile, listFiles, postDirectory, postMove, statFile } from "./tree-routes.ts";
import { watchPath } from "./watch-routes.ts";
import { commitVolumes, reloadVolumes } from "./volume-routes.ts";

const SANDBOX = "/v1/sandboxes/{sandbox}";
const PROCESS = `${SANDBOX}/processes/{process}`;

/** `ANY` answers every method. */
const ROUTES: Record<string, Record<string, Handler>> = {
  "/v1/info": { GET: getInfo },
  [SANDBOX]: { PUT: startContainer, GET: getContainer, DELETE: stopContainer },
  [`${SANDBOX}/deadline`]: { PUT: setDeadline },
  [`${SANDBOX}/network`]: { PUT: setNetwork },
  [`${SANDBOX}/processes`]: { POST: exec, GET: listProcesses },
  [PROCESS]: { GET: getProcess },
  [`${PROCESS}/signal`]: { POST: signalProcess },
  [`${PROCESS}/resize`]: { POST: resizeProcess },
  [`${PROCESS}/stdin`]: { POST: writeStdin },
  [`${PROCESS}/events`]: { GET: readEvents },
  [`${PROCESS}/attachments`]: { POST: attachProcess },
  [`${PROCESS}/stdout`]: { GET: readOutput("stdout") },
  [`${PROCESS}/stderr`]: { GET: readOutput("stderr") },
  [`${SANDBOX}/files`]: { GET: getFile, PUT: putFile, DELETE: deleteFile },
  [`${SANDBOX}/files/stat`]: { GET: statFile },
  [`${SANDBOX}/files/list`]: { GET: listFiles },
  [`${SANDBOX}/files/directories`]: { POST: postDirectory },
  [`${SANDBOX}/files/move`]: { POST: postMove },
  [`${SANDBOX}/files/archive`]: { GET: getArchive, PUT: putArchive },
  [`${SANDBOX}/files/watch`]: { GET: watchPath },
  [`${SANDBOX}/volumes/commit`]: { POST: commitVolumes },
  [`${SANDBOX}/volumes/reload`]: { POST: reloadVolumes },
  [`${SANDBOX}/snapshots/{image}`]: { POST: takeSnapshot },
  [`${SANDBOX}/ports/{port}`]: { GET: probePort },
  [`${SANDBOX}/ports/{port}/proxy`]: { ANY: proxyRequest },
  "/v1/images/{image}": { DELETE: removeImage },
};

/** Requests that ask to upgrade. */
const UPGRADES: Record<string, Record<string, UpgradeHandler>> = {
  [`${SANDBOX}/ports/{port}/proxy`]: { ANY: proxyUpgrade },
  [`${SANDBOX}/ports/{port}/bodies/{body}`]: { PUT: takeBody },
};

const isPort = (text: string) => /^[1-9]\d{0,4}$/.test(text) && Number(text) <= 65_535;
const fits = (schema: z.ZodType) => (text: string) => schema.safeParse(text).success;
const VARIABLES: Record<string, (segment: string) => boolean> = {
  "{sandbox}": fits(idSchema("sandbox")),
  "{process}": fits(ProcessIdSchema),
  "{image}": fits(idSchema("image")),
  "{port}": isPort,
  "{body}": fits(z.uuid()),
};

interface Route<Handles> {
  segments: string[];
  handlers: Record<string, Handles>;
}
const tableOf = <Handles>(routes: Record<string, Record<string, Handles>>): Route<Handles>[] =>
  Object.entries(routes).map(([pattern, handlers]) => ({ segments: pattern.split("/"), handlers }));
const routes = tableOf(ROUTES);
const upgrades = tableOf(UPGRADES);

/** The handler of a path and its arguments. Throws `not_found` and `method_not_allowed`. */
export const findRoute = (method: string, path: string) => find(routes, method, path);

/** The same of a request that asks to upgrade. */
export const findUpgrade = (method: string, path: string) => find(upgrades, method, path);

function find<Handles>(table: Route<Handles>[], method: string, path: string): { handler: Handles; args: string[] } {
  const segments = path.split("/");
  for (const route of table) {
    const args = match(route.segments, segments);
    if (!args) continue;
    const handler = route.handlers[method] ?? route.handlers["ANY"];
    if (!handler) throw new ApiError("method_not_allowed");
    return { handler, args };
  }
  throw new ApiError("not_found");
}

function match(pattern: string[], segments: string[]): string[] | undefined {
  if (pattern.length !== segments.length) return undefined;
  const args: string[] = [];
  for (const [i, expected] of pattern.entries()) {
    const segment = segments[i]!;
    const isValid = VARIABLES[expected];
    if (!isValid) {
      if (segment !== expected) return undefined;
      continue;
    }
    if (!isValid(segment)) return undefined;
    args.push(segment);
  }
  return args;
}
