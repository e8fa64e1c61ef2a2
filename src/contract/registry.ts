import { jwtVerify, SignJWT } from "jose";
import { z } from "zod";
import { EnvironmentSchema } from "./fields.ts";

/** The repository of an environment's snapshots is `<environment>/snapshots`, each under its own id as the tag. Only hosts write it. */
export const SNAPSHOTS_REPOSITORY = "snapshots";
export const snapshotsOf = (environment: string) => `${environment}/${SNAPSHOTS_REPOSITORY}`;

export const DigestSchema = z.string().regex(/^sha256:[0-9a-f]{64}$/, "must be a sha256 digest");

/** A manifest with this annotation holds layers that lie over a machine's own programs, not over a base of its own. */
export const BASE_ANNOTATION = "dev.sandbar.base";
/** Its value for what runs on the embedded runtime only. */
export const HOST_BASE = "host";

/** No request to the registry is longer: that is what the platform takes on every plan. */
export const MAX_CHUNK_BYTES = 32 * 1024 * 1024;

/** What a host may do at the registry, for a while: with one repository, and where it writes, one tag. */
export const RegistryGrantSchema = z.discriminatedUnion("access", [
  z.object({ access: z.literal("pull"), environment: EnvironmentSchema, repository: z.string() }),
  z.object({ access: z.literal("push"), environment: EnvironmentSchema, repository: z.string(), tag: z.string() }),
]);
export type RegistryGrant = z.infer<typeof RegistryGrantSchema>;

const AUDIENCE = "sandbar-registry";
const encoder = new TextEncoder();
const keyOf = (signingSecret: string) => encoder.encode(`${AUDIENCE}:${signingSecret}`);

/** The grant as a bearer token (a JWT, HS256), good for so many seconds. */
export function signGrant(signingSecret: string, grant: RegistryGrant, lifetimeS: number): Promise<string> {
  return new SignJWT({ grant })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience(AUDIENCE)
    .setIssuedAt()
    .setExpirationTime(`${lifetimeS}s`)
    .sign(keyOf(signingSecret));
}

/** A pull or push by a host that takes longer is begun anew with another grant. Seconds. */
export const HOST_GRANT_LIFETIME_S = 2 * 3600;

/** What a host pulls from a repository with. */
export const signHostPull = (signingSecret: string, environment: string, repository: string): Promise<string> =>
  signGrant(signingSecret, { access: "pull", environment, repository }, HOST_GRANT_LIFETIME_S);

/** The grant of a token; undefined where it is none of ours, or over. */
export async function verifyGrant(signingSecret: string, token: string): Promise<RegistryGrant | undefined> {
  const verified = await jwtVerify(token, keyOf(signingSecret), { algorithms: ["HS256"], audience: AUDIENCE }).catch(
    () => undefined,
  );
  return RegistryGrantSchema.safeParse(verified?.payload["grant"]).data;
}

/** An image of an environment's own registry, as `image` of a create names it: `main/app:1`, `main/app@sha256:…`. */
export interface RegistryReference {
  repository: string;
  reference: { tag: string } | { digest: string };
}

const REFERENCE =
  /^([a-z0-9-]+(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)+)(?::([A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$/;

/** The reference when it is to the environment's own registry: every name below the environment's is. */
export function parseRegistryReference(environment: string, image: string): RegistryReference | undefined {
  if (!image.startsWith(`${environment}/`)) return undefined;
  const [, repository, tag = "latest", digest] = REFERENCE.exec(image) ?? [];
  return repository === undefined ? undefined : { repository, reference: digest === undefined ? { tag } : { digest } };
}
