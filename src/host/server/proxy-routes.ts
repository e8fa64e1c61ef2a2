import { forwardRequest } from "../proxy.ts";
import type { Handler } from "./route.ts";

export const proxyRequest: Handler = async ({ host, request, response }, sandboxId, port) => {
  await host.containers.use(sandboxId!, (container) => forwardRequest(container, Number(port), request, response));
};
