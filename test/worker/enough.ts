import type { Operation } from "./client.ts";

const BODIES: Record<string, object> = {
  execSandbox: { command: ["true"] },
  signalProcess: { signal: "SIGTERM" },
  resizeProcess: { rows: 24, cols: 80 },
  replaceSecret: { values: {} },
  createSandboxDirectory: { path: "/x" },
  createConnectToken: { port: 8080 },
  moveSandboxFile: { from: "/x", to: "/y" },
};

/** A JSON body that the operation takes. */
export const bodyFor = ({ operationId }: Operation): object => BODIES[operationId] ?? {};

/** A query that it takes. */
export const queryFor = ({ path, takesJson }: Operation): string =>
  /\/files(\/|$)/.test(path) && !takesJson ? "?path=/etc/os-release" : "";
