import type { Claim, RegistryRpc } from "./rpc.ts";

/** Well below `CLAIM_MS`. */
const RENEWED_EVERY_MS = 8_000;

/** Works on an upload as its one writer: says now and then that it is still at it, and lets go in the end. */
export async function holding<T>(
  registry: RegistryRpc,
  uploadId: string,
  claim: Claim,
  work: (claim: Claim) => Promise<T>,
): Promise<T> {
  const renew = () => void registry.renewClaim(uploadId, claim.writer).catch(() => undefined);
  const timer = setInterval(renew, RENEWED_EVERY_MS);
  try {
    return await work(claim);
  } finally {
    clearInterval(timer);
    // Else it runs out by itself.
    await registry.releaseUpload(uploadId, claim.writer).catch(() => undefined);
  }
}
