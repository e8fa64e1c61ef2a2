import { VolumesOrderSchema } from "../../contract/volume-mount.ts";
import { readJson } from "./request.ts";
import { sendJson } from "./respond.ts";
import type { Handler } from "./route.ts";

export const commitVolumes: Handler = async ({ host, request, response }, sandboxId) => {
  const { paths } = await readJson(request, VolumesOrderSchema);
  sendJson(response, await host.containers.use(sandboxId!, (container) => host.volumes.commit(container, paths)));
};

export const reloadVolumes: Handler = async ({ host, request, response }, sandboxId) => {
  const { paths } = await readJson(request, VolumesOrderSchema);
  sendJson(response, await host.containers.use(sandboxId!, (container) => host.volumes.reload(container, paths)));
};
