import { z } from "zod";
import { ApiError } from "../../contract/errors.ts";
import {
  DeadlineSchema,
  NetworkUpdateSchema,
  SnapshotSpecSchema,
  StartSpecSchema,
} from "../../contract/host-protocol.ts";
import { isPortOpen } from "../proxy.ts";
import { tooSlow, withTimeLimit } from "../time-limit.ts";
import { readJson, valid } from "./request.ts";
import { sendJson, sendNothing } from "./respond.ts";
import type { Handler } from "./route.ts";

const MAX_SNAPSHOT_WAIT_MS = 60_000;
const REMOVE_IMAGE_TIMEOUT_MS = 60_000;
/** Of DELETE: the newest generation that it means, so that a late one spares the next start. */
const StopQuerySchema = z.object({ generation: z.coerce.number().int().min(1).optional() });
/** Of a snapshot: how long the answer may take. */
const WaitQuerySchema = z.object({ wait_ms: z.coerce.number().int().min(0).max(MAX_SNAPSHOT_WAIT_MS).default(0) });

export const getInfo: Handler = async ({ host, response }) => sendJson(response, host.info);

export const startContainer: Handler = async ({ host, request, response }, sandboxId) => {
  const spec = await readJson(request, StartSpecSchema);
  if (spec.sandbox_id !== sandboxId) {
    throw new ApiError("invalid_request", { errors: [{ path: "sandbox_id", message: "must be that of the path" }] });
  }
  sendJson(response, await host.containers.start(spec));
};

export const getContainer: Handler = async ({ host, response }, sandboxId) =>
  sendJson(response, host.containers.status(sandboxId!));

export const stopContainer: Handler = async ({ host, response, query }, sandboxId) => {
  await host.containers.stop(sandboxId!, valid(StopQuerySchema, Object.fromEntries(query)).generation);
  sendNothing(response);
};

export const setDeadline: Handler = async ({ host, request, response }, sandboxId) => {
  await host.containers.setDeadline(sandboxId!, await readJson(request, DeadlineSchema));
  sendNothing(response);
};

export const setNetwork: Handler = async ({ host, request, response }, sandboxId) => {
  const { generation, revision, policy } = await readJson(request, NetworkUpdateSchema);
  await host.networks.update(await host.containers.running(sandboxId!, generation), revision, policy);
  sendNothing(response);
};

export const takeSnapshot: Handler = async ({ host, request, response, query }, sandboxId, imageId) => {
  const { wait_ms: waitMs } = valid(WaitQuerySchema, Object.fromEntries(query));
  const spec = await readJson(request, SnapshotSpecSchema);
  sendJson(response, await host.snapshots.take(host.containers, sandboxId!, imageId!, spec, waitMs));
};

export const removeImage: Handler = async ({ host, response }, imageId) => {
  await withTimeLimit(host.runtime.removeImage(imageId!), REMOVE_IMAGE_TIMEOUT_MS, tooSlow("Removing the image"));
  sendNothing(response);
};

export const probePort: Handler = async ({ host, response }, sandboxId, port) => {
  const container = await host.containers.running(sandboxId!);
  sendJson(response, { open: await isPortOpen(container, Number(port)) });
};
