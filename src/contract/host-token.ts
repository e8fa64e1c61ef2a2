import { decodeProtectedHeader, jwtVerify, SignJWT } from "jose";
import { ApiError } from "./errors.ts";

/**
 * The signature on every request between the control plane and a host: a JWT (HS256) under a key that
 * only the two share, derived from the deployment's signing secret, the host's id and the version of
 * the key, which `kid` names where it is not 1. It is good for one audience, one method and path, half
 * a minute, and one use.
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

/** The key of one host: HMAC-SHA-256 of its id and the key's version under the signing secret, base64url. */
export async function deriveHostKey(signingSecret: string, hostId: string, version = 1): Promise<string> {
  // The first version is that of hosts from before keys had any.
  const name = version === 1 ? `sandbar-host:${hostId}` : `sandbar-host-v${version}:${hostId}`;
  const key = await crypto.subtle.importKey(
    "raw",
    encoder.encode(signingSecret),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["sign"],
  );
  return base64url(new Uint8Array(await crypto.subtle.sign("HMAC", key, encoder.encode(name))));
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

/** What a person hands to a new host: its id and key in one word, with the key's version where that is not 1. */
export const formatJoinToken = (hostId: string, hostKey: string, version = 1) =>
  version === 1 ? `${hostId}.${hostKey}` : `${hostId}.${version}.${hostKey}`;

/** What a join token says: who the host is, and its first key. */
export interface JoinToken {
  hostId: string;
  hostKey: string;
  keyVersion: number;
}

export function parseJoinToken(token: string): JoinToken | undefined {
  const match = /^(ho-[a-z0-9]{22})\.(?:([1-9]\d{0,8})\.)?([A-Za-z0-9_-]{43})$/.exec(token.trim());
  return match ? { hostId: match[1]!, keyVersion: Number(match[2] ?? 1), hostKey: match[3]! } : undefined;
}

/** Signs one request; the answer is the value of `Authorization`. `target` is path and query, `version` that of the key. */
export async function signRequest(
  hostKey: string | ReadyKey,
  audience: string,
  method: string,
  target: string,
  version = 1,
): Promise<string> {
  const token = await new SignJWT({ htm: method, htu: target })
    .setProtectedHeader({ alg: "HS256", ...(version !== 1 && { kid: String(version) }) })
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

/** The key of a version; undefined where such a key is not, or no longer, taken. */
export type FindKey = (version: number) => Promise<string | ReadyKey | undefined>;

/**
 * Checks the signature of one request; throws `unauthenticated` otherwise. jose compares in constant
 * time. Without `replays` a second use passes: for calls that are idempotent. The answer is the version
 * of the key that the request is signed with.
 */
export async function verifyRequest(
  hostKey: string | ReadyKey | FindKey,
  audience: string,
  request: { authorization: string | null | undefined; method: string; target: string },
  replays?: ReplayGuard,
): Promise<number> {
  const refuse = (detail: string) => new ApiError("unauthenticated", { detail });
  const token = /^Bearer (\S+)$/.exec(request.authorization ?? "")?.[1];
  if (!token) throw refuse("The request is not signed.");
  const version = keyVersionOf(token);
  const find = typeof hostKey === "function" ? hostKey : () => hostKey;
  const key = version === undefined ? undefined : await find(version);
  if (version === undefined || key === undefined) {
    throw refuse("The signature is of a key that is not known here, or no longer.");
  }
  const verified = await jwtVerify(token, keyMaterial(key), {
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
  return version;
}

/** What the token, unchecked yet, says of its key; undefined where that makes no sense. */
function keyVersionOf(token: string): number | undefined {
  try {
    const { kid = "1" } = decodeProtectedHeader(token);
    return /^[1-9]\d{0,8}$/.test(kid) ? Number(kid) : undefined;
  } catch {
    return undefined;
  }
}
