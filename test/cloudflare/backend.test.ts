import { describe, inject } from "vitest";
import { describeBackend } from "../backends/contract.ts";
import { RemoteBackend } from "./remote-backend.ts";

const workerUrl = inject("containerWorker");

// Real containers, each beside its object in workerd: see `setup.ts`.
describe.skipIf(workerUrl === undefined)("on Cloudflare Containers", () => {
  const open = (sandboxId: string) => new RemoteBackend(workerUrl ?? "", sandboxId);
  describeBackend({ name: "cloudflare", image: "base", open, isBesideObject: true });
});
