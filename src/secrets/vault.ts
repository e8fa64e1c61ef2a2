import { SecretCatalog, type SealedRow } from "../catalog/secrets.ts";
import { ApiError } from "../contract/errors.ts";
import type { Secret, SecretRewrap } from "../contract/secret.ts";
import { KeyRing, type KeyRingVariables, type WrappingKey } from "./key-ring.ts";
import { packValues, unpackValues, type Values } from "./packed-values.ts";
import { aesKey, KEY_BYTES, openBytes, sealBytes } from "./sealed-bytes.ts";

export interface VaultEnv extends KeyRingVariables {
  DB: D1Database;
}

/** Which secret, and whose. */
export interface SecretPlace {
  environment: string;
  secretId: string;
}

const REWRAP_BATCH = 100;
/** One call makes no more queries than a Worker of any plan may. */
const MAX_BATCHES = 20;

/**
 * The secrets, encrypted: each under a data key of its own, which is wrapped with a key of the deployment's. Both are bound to the
 * secret's id and its environment, so that one row cannot be passed off as another. Nothing but `open` gives values away.
 */
export class SecretVault {
  readonly #catalog: SecretCatalog;
  readonly #variables: KeyRingVariables;
  #ring: Promise<KeyRing> | undefined;

  constructor(env: VaultEnv) {
    this.#catalog = new SecretCatalog(env.DB);
    this.#variables = env;
  }

  /** Safe to repeat. Throws `conflict` where another has the name. */
  async add(place: SecretPlace, name: string, values: Values, createdAt: number): Promise<Secret> {
    const row = { ...place, name, keys: Object.keys(values), createdAt, updatedAt: createdAt };
    return this.#catalog.add({ ...row, ...(await this.#seal(place, values)) });
  }

  /** Undefined where there is none. */
  async replace(place: SecretPlace, values: Values, now: number): Promise<Secret | undefined> {
    const sealed = await this.#seal(place, values);
    return this.#catalog.replace(place.environment, place.secretId, { ...sealed, keys: Object.keys(values) }, now);
  }

  /** Throws `secrets_unavailable` where the key that a secret is under is not there. */
  async requireReadable(secrets: readonly { secretId: string; wrappedBy: string }[]): Promise<void> {
    const ring = await this.#keys();
    for (const { secretId, wrappedBy } of secrets) ring.require(wrappedBy, secretId);
  }

  /** The values of secrets, in their order. Throws `secret_not_found`, and `secrets_unavailable` of one that cannot be read. */
  async open(environment: string, secretIds: readonly string[]): Promise<Values[]> {
    const rows = new Map((await this.#catalog.sealed(environment, secretIds)).map((row) => [row.secretId, row]));
    return Promise.all(
      secretIds.map((secretId) => {
        const row = rows.get(secretId);
        if (!row) throw new ApiError("secret_not_found", { detail: `There is no secret ${secretId} any more.` });
        return this.#open(row);
      }),
    );
  }

  /** Wraps what is under an old key with the present one: all of it, or as much as one call may. */
  async rewrap(): Promise<SecretRewrap> {
    const ring = await this.#keys();
    const { current, old } = ring;
    let [rewrapped, failed, after] = [0, 0, ""];
    for (let batch = 0; batch < MAX_BATCHES; batch++) {
      const rows = await this.#catalog.wrappedBy(old, after, REWRAP_BATCH);
      const settled = await Promise.allSettled(rows.map((row) => this.#wrappedAnew(row, ring)));
      const done = settled.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      await this.#catalog.rewrap(done, current.fingerprint);
      rewrapped += done.length;
      failed += rows.length - done.length;
      if (rows.length < REWRAP_BATCH) break;
      after = rows.at(-1)!.secretId;
    }
    return { key: current.fingerprint, rewrapped, failed, keys: await this.#catalog.countByKey() };
  }

  #keys(): Promise<KeyRing> {
    return (this.#ring ??= KeyRing.of(this.#variables));
  }

  async #seal(place: SecretPlace, values: Values) {
    const { current } = await this.#keys();
    const bytes = crypto.getRandomValues(new Uint8Array(KEY_BYTES));
    const [sealed, dataKey] = await Promise.all([
      sealBytes(await aesKey(bytes), packValues(values), about("values", place)),
      wrap(current, bytes, place),
    ]);
    return { sealed, dataKey, wrappedBy: current.fingerprint };
  }

  async #open(row: SealedRow): Promise<Values> {
    const ring = await this.#keys();
    const key = await unwrap(ring, row);
    const values = await readable(row, async () =>
      unpackValues(await openBytes(await aesKey(key), row.sealed, about("values", row))),
    );
    if (row.wrappedBy !== ring.current.fingerprint) await this.#rewrapInPassing(row, ring);
    return values;
  }

  /** Whoever reads a secret need not wait for that to succeed another time. */
  async #rewrapInPassing(row: SealedRow, ring: KeyRing): Promise<void> {
    try {
      await this.#catalog.rewrap([await this.#wrappedAnew(row, ring)], ring.current.fingerprint);
    } catch (error) {
      console.error(`${row.secretId} stays under its old key for now.`, error);
    }
  }

  async #wrappedAnew(row: SealedRow, ring: KeyRing) {
    const dataKey = await wrap(ring.current, await unwrap(ring, row), row);
    return { secretId: row.secretId, before: row.dataKey, dataKey };
  }
}

const about = (what: "values" | "data key", { environment, secretId }: SecretPlace): string =>
  JSON.stringify([what, environment, secretId]);

const wrap = ({ key }: WrappingKey, dataKey: Uint8Array, place: SecretPlace): Promise<string> =>
  sealBytes(key, dataKey, about("data key", place));

async function unwrap(ring: KeyRing, row: SealedRow): Promise<Uint8Array> {
  const { key } = ring.require(row.wrappedBy, row.secretId);
  return readable(row, () => openBytes(key, row.dataKey, about("data key", row)));
}

async function readable<T>({ secretId }: SealedRow, open: () => Promise<T>): Promise<T> {
  try {
    return await open();
  } catch (cause) {
    const detail = `What is stored of the secret ${secretId} is not what was written.`;
    throw new ApiError("secrets_unavailable", { detail, extra: { secret_id: secretId }, retryAfter: 60, cause });
  }
}
