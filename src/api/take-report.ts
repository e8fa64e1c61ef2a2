import { HostCatalog, type HostStanding } from "../catalog/hosts.ts";
import { ApiError } from "../contract/errors.ts";
import type { HostOrders, HostReport } from "../contract/host-report.ts";
import { deriveHostKey } from "../contract/host-token.ts";
import { openPlacement } from "../placement/client.ts";
import { reconcile } from "../placement/reconcile.ts";
import type { Env } from "./env.ts";

const WRITE_EVERY_MS = 60_000;

/** Who has signed a report: the version of its key, and how the host stands by which that was judged; undefined before its first. */
interface Signer {
  keyVersion: number;
  standing: HostStanding | undefined;
}

/** Tells all who must know what a host has reported, and answers what it is to do. Throws `forbidden` for one that was removed. */
export async function takeReport(env: Env, report: HostReport, signer: Signer): Promise<HostOrders> {
  const { keyVersion, standing } = signer;
  const { draining = false } = standing ?? {};
  const { warm, isNews } = await openPlacement(env).report(report, { draining, keyVersion });
  const isWanted = isNews || isDue(signer);
  if (isWanted && !(await new HostCatalog(env.DB).report(report, Date.now(), keyVersion)))
    throw new ApiError("forbidden", { detail: "The host was removed." });
  const [orders, key] = await Promise.all([reconcile(env, report), newKey(env, report.info.host_id, signer)]);
  return { ...orders, ...(warm && { warm }), ...(key && { key }) };
}

/** The catalog is told that a host is there now and then, and at once what it must know of its key. */
function isDue({ keyVersion, standing }: Signer): boolean {
  const { lastSeenAt, seenKeyVersion, oldestKeyVersion } = standing ?? {};
  if (seenKeyVersion !== keyVersion || oldestKeyVersion !== keyVersion) return true;
  return typeof lastSeenAt !== "number" || lastSeenAt <= Date.now() - WRITE_EVERY_MS;
}

/** The key that the host is to have, until it reports with it: one that is revoked meanwhile earns no newer one. */
async function newKey(env: Env, hostId: string, { keyVersion, standing }: Signer): Promise<HostOrders["key"]> {
  const version = standing?.keyVersion ?? 1;
  if (keyVersion >= version) return undefined;
  return { version, key: await deriveHostKey(env.SIGNING_SECRET, hostId, version) };
}
