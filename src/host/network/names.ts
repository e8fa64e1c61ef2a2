import { getServers } from "node:dns";
import { Resolver } from "node:dns/promises";
import { isIP } from "node:net";

const ATTEMPT_MS = 2_000;
const ATTEMPTS = 2;
const MAX_KEPT_MS = 60_000;
const MIN_KEPT_MS = 1_000;
const MAX_KEPT = 1_000;

export type Family = 4 | 6;

interface Kept {
  addresses: Promise<string[]>;
  /** Of `performance.now()`. */
  until: number;
}

/** Looks up names for sandboxes, always anew on this machine: nothing that a sandbox says of a name's addresses counts. */
export class Names {
  /** The addresses of those that are asked, without ports. */
  readonly servers: readonly string[];
  readonly #resolver = new Resolver({ timeout: ATTEMPT_MS, tries: ATTEMPTS });
  readonly #kept = new Map<string, Kept>();

  /** `servers`: as `192.0.2.1`, `192.0.2.1:53` or `[2001:db8::1]:53`; those of the machine if left out. */
  constructor(servers: readonly string[] = getServers()) {
    this.#resolver.setServers(servers);
    this.servers = servers.map(addressOf);
  }

  /** The name's addresses, none where it has none of this family. Rejects with the code `ENOTFOUND` where there is no such name. */
  async resolve(name: string, family: Family): Promise<string[]> {
    const key = `${family} ${name}`;
    const kept = this.#kept.get(key);
    if (kept && kept.until > performance.now()) return kept.addresses;
    const asked: Kept = { addresses: Promise.resolve([]), until: Number.POSITIVE_INFINITY };
    asked.addresses = this.#ask(name, family).then(
      ({ addresses, keptMs }) => {
        asked.until = performance.now() + keptMs;
        return addresses;
      },
      (error: unknown) => {
        if (this.#kept.get(key) === asked) this.#kept.delete(key);
        throw error;
      },
    );
    this.#keep(key, asked);
    return asked.addresses;
  }

  async #ask(name: string, family: Family): Promise<{ addresses: string[]; keptMs: number }> {
    try {
      const records = await (family === 4
        ? this.#resolver.resolve4(name, { ttl: true })
        : this.#resolver.resolve6(name, { ttl: true }));
      const ttlMs = Math.min(...records.map(({ ttl }) => ttl)) * 1_000;
      return {
        addresses: records.map(({ address }) => address),
        keptMs: Math.min(MAX_KEPT_MS, Math.max(MIN_KEPT_MS, ttlMs)),
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENODATA") throw error;
      return { addresses: [], keptMs: MIN_KEPT_MS };
    }
  }

  #keep(key: string, asked: Kept): void {
    this.#kept.delete(key);
    this.#kept.set(key, asked);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(oldest!);
  }
}

function addressOf(server: string): string {
  if (isIP(server)) return server;
  return /^\[([^\]]+)\]/.exec(server)?.[1] ?? server.replace(/:\d+$/, "");
}
