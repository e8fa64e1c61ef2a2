import type { Principal } from "./principal.ts";

/** How long a key is taken without the catalog: as long as a revoked one may be, where the catalog fails right after. */
const KNOWN_MS = 60_000;
const MAX_KEYS = 1000;

/** The keys that the catalog has vouched for of late, by their hash, for while it does not answer. */
export class KnownKeys {
  readonly #keys = new Map<string, { principal: Principal; until: number }>();

  remember(hash: string, principal: Principal, now: number): void {
    this.#keys.delete(hash);
    this.#keys.set(hash, { principal, until: now + KNOWN_MS });
    if (this.#keys.size > MAX_KEYS) this.#keys.delete(this.#keys.keys().next().value!);
  }

  forget(hash: string): void {
    this.#keys.delete(hash);
  }

  recall(hash: string, now: number): Principal | undefined {
    const known = this.#keys.get(hash);
    return known && known.until > now ? known.principal : undefined;
  }
}
