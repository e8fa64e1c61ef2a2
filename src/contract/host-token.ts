import { jwtVerify, SignJWT } from "jose";
import { ApiError } from "./errors.ts";

/**
 * The signature on every request between the control plane and a host: a JWT (HS256) under a key that
 * only the two share, derived from the deployment's signing secret and the host's id. It is good for
 * one audience, one method and path, half a minute, and one use.
 */
const LIFETIME_S = 30;
/** How far the two clocks may be apart. */
const CLOCK_TOLERANCE_S = 30;

/** The audience of what a host sends to the control plane. */
export const CONTROL_PLANE_AUDIENCE = "sandbar-control-plane";

const encoder = new TextEncoder();

const base64url = (bytes: Uint8Array) =>
  btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");

/** The key of one host: HMAC-SHA-256 of its id under the signing secret, base64url. */
export async function deriveHostKey(signingSecret: string, hostId: string): Promise<string> {
  const key = await crypto.subtle.importKey(
    "raw",
    encoder.encode(signingSecret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  return base64url(new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(`sandbar-host:${hostId}`))));
}

/** A key as the platform holds it, made ready for use. */
export type ReadyKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>;

/** A host's key made ready: whoever signs or checks often spares the time that it takes each call to do so. */
export function importHostKey(hostKey: string): Promise<ReadyKey> {
  return crypto.subtle.importKey("raw", encoder.encode(hostKey), { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
    "verify",
  ]);
}

const keyMaterial = (hostKey: string | ReadyKey) => (typeof hostKey === "string" ? encoder.encode(hostKey) : hostKey);

/** What a person hands to a new host: its id and key in one word. */
export const formatJoinToken = (hostId: string, hostKey: string) => `${hostId}.${hostKey}`;

export function parseJoinToken(token: string): { hostId: string; hostKey: string } | undefined {
  const match = /^(ho-[a-z0-9]{22})\.([A-Za-z0-9_-]{43})$/.exec(token.trim());
  return match ? { hostId: match[1]!, hostKey: match[2]! } : undefined;
}

/** Signs one request; the answer is the value of `Authorization`. `target` is path and query. */
export async function signRequest(
  hostKey: string | ReadyKey,
  audience: string,
  method: string,
  target: string,
): Promise<string> {
  const token = await new SignJWT({ htm: method, htu: target })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience(audience)
    .setIssuedAt()
    .setExpirationTime(`${LIFETIME_S}s`)
    .setJti(crypto.randomUUID())
    .sign(keyMaterial(hostKey));
  return `Bearer ${token}`;
}

/** Remembers the tokens that were used, for as long as they could be used again. */
export class ReplayGuard {
  readonly #seen = new Map<string, number>();

  /** True the first time; false ever after. */
  firstUse(tokenId: string, expiresAtS: number): boolean {
    const nowS = Date.now() / 1000;
    for (const [id, forgetAtS] of this.#seen) {
      if (forgetAtS > nowS) break;
      this.#seen.delete(id);
    }
    if (this.#seen.has(tokenId)) return false;
    this.#seen.set(tokenId, expiresAtS + CLOCK_TOLERANCE_S);
    return true;
  }
}

/**
 * Checks the signature of one request; throws `unauthenticated` otherwise. jose compares in constant
 * time. Without `replays` a second use passes: for calls that are idempotent.
 */
export async function verifyRequest(
  hostKey: string | ReadyKey,
  audience: string,
  request: { authorization: string | null | undefined; method: string; target: string },
  replays?: ReplayGuard,
): Promise<void> {
  const refuse = (detail: string) => new ApiError("unauthenticated", { detail });
  const token = /^Bearer (\S+)$/.exec(request.authorization ?? "")?.[1];
  if (!token) throw refuse("The request is not signed.");
  const verified = await jwtVerify(token, keyMaterial(hostKey), {
    algorithms: ["HS256"],
    audience,
    clockTolerance: CLOCK_TOLERANCE_S,
    maxTokenAge: LIFETIME_S,
    requiredClaims: ["exp", "iat", "jti", "htm", "htu"],
  }).catch(() => undefined);
  if (!verified) throw refuse("The signature is not valid here and now.");
  const { htm, htu, jti, exp } = verified.payload;
  if (htm !== request.method || htu !== request.target) throw refuse("The signature is for another request.");
  if (replays && !replays.firstUse(jti!, exp!)) throw refuse("The signature was used before.");
}
