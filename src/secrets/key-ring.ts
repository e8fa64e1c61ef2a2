import { hexOf } from "../auth/digest.ts";
import { ApiError } from "../contract/errors.ts";
import { aesKey, KEY_BYTES } from "./sealed-bytes.ts";

/** What the deployment's keys are made from. */
export interface KeyRingVariables {
  /** Stands in where there is no `SECRETS_KEY`. */
  SIGNING_SECRET: string;
  /** Under which the secrets are kept: 32 characters or more, no comma. */
  SECRETS_KEY?: string;
  /** What `SECRETS_KEY` was before, or a `SIGNING_SECRET` that stood in for it; several by commas. */
  SECRETS_KEY_OLD?: string;
}

/** A key under which data keys are. The fingerprint names it and tells nothing of it. */
export interface WrappingKey {
  fingerprint: string;
  key: CryptoKey;
}

const MIN_LENGTH = 32;
const FINGERPRINT_BYTES = 8;
const OWN_LABEL = "sandbar-secrets";
const SIGNING_LABEL = "sandbar-secrets-of-signing-secret";

const encoder = new TextEncoder();

/** The keys of a deployment: new data keys are wrapped with the present one, and all of them open what is there. */
export class KeyRing {
  readonly current: WrappingKey;
  readonly #keys: Map<string, WrappingKey>;

  private constructor(current: WrappingKey, old: WrappingKey[]) {
    this.current = current;
    this.#keys = new Map([...old, current].map((one) => [one.fingerprint, one]));
  }

  /** Throws `secrets_unavailable` where `SECRETS_KEY` cannot be one. */
  static async of({ SIGNING_SECRET, SECRETS_KEY, SECRETS_KEY_OLD = "" }: KeyRingVariables): Promise<KeyRing> {
    const own = SECRETS_KEY?.trim();
    if (own && (own.length < MIN_LENGTH || own.includes(","))) {
      const detail = `SECRETS_KEY of this deployment must have ${MIN_LENGTH} characters or more, and no comma.`;
      throw new ApiError("secrets_unavailable", { detail, retryAfter: 60 });
    }
    const before = SECRETS_KEY_OLD.split(",")
      .map((text) => text.trim())
      .filter(Boolean);
    // Where a deployment gets a SECRETS_KEY, what is under its signing secret stays readable.
    const old = before.flatMap((text) => [derive(text, OWN_LABEL), derive(text, SIGNING_LABEL)]);
    const signing = derive(SIGNING_SECRET, SIGNING_LABEL);
    return new KeyRing(await (own ? derive(own, OWN_LABEL) : signing), await Promise.all([...old, signing]));
  }

  /** All fingerprints but the present key's. */
  get old(): string[] {
    return [...this.#keys.keys()].filter((fingerprint) => fingerprint !== this.current.fingerprint);
  }

  /** Throws `secrets_unavailable` where the key that the secret is under is not there. */
  require(fingerprint: string, secretId: string): WrappingKey {
    const found = this.#keys.get(fingerprint);
    if (found) return found;
    throw new ApiError("secrets_unavailable", {
      detail:
        `The secret ${secretId} is under the key ${fingerprint}, which this deployment does not have: ` +
        "it belongs in SECRETS_KEY_OLD.",
      extra: { secret_id: secretId, key: fingerprint },
      retryAfter: 60,
    });
  }
}

/** HKDF-SHA-256: one part of what comes out is the key, another its fingerprint. */
async function derive(text: string, label: string): Promise<WrappingKey> {
  const from = await crypto.subtle.importKey("raw", encoder.encode(text), "HKDF", false, ["deriveBits"]);
  const hkdf = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: encoder.encode(label) };
  const bits = await crypto.subtle.deriveBits(hkdf, from, (KEY_BYTES + FINGERPRINT_BYTES) * 8);
  return { key: await aesKey(bits.slice(0, KEY_BYTES)), fingerprint: hexOf(bits.slice(KEY_BYTES)) };
}
