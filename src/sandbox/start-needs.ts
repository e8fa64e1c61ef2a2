import type { VolumeCatalog } from "../catalog/volumes.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import type { StartSpec } from "../contract/host-protocol.ts";
import type { NetworkPolicy } from "../contract/network.ts";
import { platformFailure } from "../rpc/platform-failure.ts";
import type { SecretVault } from "../secrets/vault.ts";
import { startEnv } from "./start-env.ts";
import { startHeaders } from "./start-headers.ts";
import { startVolumes } from "./start-volumes.ts";
import type { SandboxRecord } from "./store.ts";

/** What a start takes from the catalog, or why the sandbox will never have it, for the user. */
export type StartNeeds = { kind: "found"; needs: FoundNeeds } | { kind: "failed"; error: string };

export type FoundNeeds = Pick<StartSpec, "env" | "volumes"> & Pick<NetworkPolicy, "headers">;

export interface NeedsParts {
  vault: Pick<SecretVault, "open">;
  volumes: Pick<VolumeCatalog, "named">;
  signingSecret: string;
  /** Whether the catalog has the sandbox. */
  isPublished: () => Promise<boolean>;
}

/**
 * The variables, the volumes and the added headers of a container. Not before the catalog has the sandbox are its secrets and its volumes looked up, since
 * not before then does whoever deletes one see who uses it. Throws where the catalog does not answer.
 */
export async function startNeeds(record: SandboxRecord, parts: NeedsParts): Promise<StartNeeds> {
  const { secrets = [], egress_headers: added = [], volumes = {} } = record.create;
  const isOfCatalog = secrets.length > 0 || added.length > 0 || Object.keys(volumes).length > 0;
  if (isOfCatalog && !(await parts.isPublished())) throw catalogAway();
  try {
    const [env, headers, mounts] = await Promise.all([
      startEnv(record, parts.vault),
      startHeaders(record, parts.vault),
      startVolumes(record, parts.volumes, parts.signingSecret),
    ]);
    const needs = { env, ...(headers.length > 0 && { headers }), ...(mounts.length > 0 && { volumes: mounts }) };
    return { kind: "found", needs };
  } catch (error) {
    if (platformFailure(error) === "catalog") throw catalogAway(error);
    const known = asApiError(error);
    if (!known) throw error;
    return { kind: "failed", error: known.message };
  }
}

/** The headers alone, for a container that runs. Throws where they cannot be had. */
export async function addedHeaders(
  record: SandboxRecord,
  { vault }: Pick<NeedsParts, "vault">,
): Promise<NetworkPolicy["headers"]> {
  try {
    return await startHeaders(record, vault);
  } catch (error) {
    throw platformFailure(error) === "catalog" ? catalogAway(error) : error;
  }
}

const catalogAway = (cause?: unknown) =>
  new ApiError("catalog_unavailable", {
    detail: "The sandbox's secrets and volumes cannot be looked up while the catalog does not answer.",
    cause,
  });
