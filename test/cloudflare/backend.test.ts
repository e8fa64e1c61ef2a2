import { inject } from "vitest";
import { describeBackend } from "../backends/contract.ts";
import { RemoteBackend } from "./remote-backend.ts";

// Real containers, each beside its object in workerd: see `setup.ts`.
const workerUrl = inject("containerWorker");
if (workerUrl !== undefined) {
  describeBackend({ name: "cloudflare", image: "base", open: (sandboxId) => new RemoteBackend(workerUrl, sandboxId) });
}
