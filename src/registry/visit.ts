import type { BlobStore } from "./blob-store.ts";
import type { RegistryRpc } from "./rpc.ts";

/** One request that has been let in, and what answers it. */
export interface Visit {
  request: Request;
  query: URLSearchParams;
  /** The caller's own, which the repository is of. */
  environment: string;
  registry: RegistryRpc;
  store: BlobStore;
}
