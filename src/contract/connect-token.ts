import { compactVerify, SignJWT } from "jose";
import { z } from "zod";
import { PortSchema } from "./fields.ts";

const DEFAULT_EXPIRES_IN_S = 3600;
const MAX_EXPIRES_IN_S = 86_400;
/** As a header, in characters. */
const MAX_USER_DATA = 1024;

/** What an app is told of who calls: the `user_metadata` of the token. Only the tunnel sets it. */
export const USER_DATA_HEADER = "x-verified-user-data";
/** Of a URL: brings a token once, in place of a header. */
export const TOKEN_PARAMETER = "_sandbar_token";

const UserMetadataSchema = z
  .union([
    z.string().regex(/^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/, "must be printable ASCII, as headers have it"),
    z.record(z.string(), z.unknown()),
  ])
  .refine((metadata) => userDataOf(metadata).length <= MAX_USER_DATA, `must have ${MAX_USER_DATA} characters at most`);

export const ConnectTokenCreateSchema = z
  .strictObject({
    port: PortSchema.meta({ description: "One of `encrypted_ports`." }),
    user_metadata: UserMetadataSchema.optional().meta({
      description: `A text, or an object. The app gets it as \`${USER_DATA_HEADER}\`, an object as JSON in ASCII.`,
    }),
    expires_in: z
      .int()
      .min(1)
      .max(MAX_EXPIRES_IN_S)
      .default(DEFAULT_EXPIRES_IN_S)
      .meta({ description: "Seconds until it is no longer taken." }),
  })
  .meta({ id: "ConnectTokenCreate" });
export type ConnectTokenCreate = z.infer<typeof ConnectTokenCreateSchema>;

export const ConnectTokenSchema = z
  .object({ url: z.url(), token: z.string(), expires_at: z.iso.datetime() })
  .meta({ id: "ConnectToken" });
export type ConnectToken = z.infer<typeof ConnectTokenSchema>;

/** The metadata as a header carries it. */
export function userDataOf(metadata: string | Record<string, unknown>): string {
  if (typeof metadata === "string") return metadata;
  const escape = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(metadata).replaceAll(/[\x7f-\uffff]/g, escape);
}

/** What a token says: which port of which sandbox it opens, until when, and for whom. */
export interface ConnectClaims {
  sandboxId: string;
  port: number;
  /** Seconds since 1970. */
  expiresAt: number;
  userData?: string | undefined;
}

const PURPOSE = "sandbar-connect";
const encoder = new TextEncoder();
const keyOf = (signingSecret: string) => encoder.encode(`${PURPOSE}:${signingSecret}`);
const audienceOf = ({ sandboxId, port }: Pick<ConnectClaims, "sandboxId" | "port">) => `${sandboxId}:${port}`;

/** The token: a JWT (HS256). */
export function signConnectToken(signingSecret: string, claims: ConnectClaims): Promise<string> {
  const { expiresAt, userData } = claims;
  return new SignJWT(userData === undefined ? {} : { usr: userData })
    .setProtectedHeader({ alg: "HS256" })
    .setAudience(audienceOf(claims))
    .setExpirationTime(expiresAt)
    .sign(keyOf(signingSecret));
}

const PayloadSchema = z.object({
  aud: z.string().regex(/^[^:]+:\d+$/),
  exp: z.number(),
  usr: z.string().optional(),
});

/**
 * What a token says that this deployment has made, whatever it is for and also when its time is over; undefined of anything
 * else. jose compares in constant time.
 */
export async function readConnectToken(signingSecret: string, token: string): Promise<ConnectClaims | undefined> {
  try {
    const { payload } = await compactVerify(token, keyOf(signingSecret), { algorithms: ["HS256"] });
    const { aud, exp, usr } = PayloadSchema.parse(JSON.parse(new TextDecoder().decode(payload)));
    const [sandboxId, port] = aud.split(":");
    return { sandboxId: sandboxId!, port: Number(port), expiresAt: exp, userData: usr };
  } catch {
    return undefined;
  }
}
