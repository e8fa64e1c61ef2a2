import { createPrivateKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { createSecureContext, type SecureContext } from "node:tls";
import { z } from "zod";
import { MAX_TIMEOUT_S } from "../../contract/fields.ts";
import { rootCertificate, serverCertificate } from "./certificate.ts";

/** The clock of whoever looks may be behind. */
const BEFORE_MS = 3_600_000;
const AFTER_MS = 3_600_000;
const SERVER_NAME = "Sandbar egress";

/** An authority as it outlives this daemon: for nobody's eyes but its own. */
export const KeptAuthoritySchema = z.strictObject({
  /** PEM. */
  certificate: z.string(),
  /** PEM of PKCS #8. */
  key: z.string(),
  name: z.string(),
  /** Milliseconds since 1970. */
  not_before: z.int(),
  not_after: z.int(),
});
export type KeptAuthority = z.infer<typeof KeptAuthoritySchema>;

/**
 * One sandbox's own certificate authority, which its programs are made to trust: it vouches for the domains to whose requests headers are
 * added, and for nothing else. Its key never leaves this machine.
 */
export class Authority {
  readonly #kept: KeptAuthority;
  readonly #key: KeyObject;
  readonly #contexts = new Map<string, SecureContext>();

  private constructor(kept: KeptAuthority, key: KeyObject) {
    this.#kept = kept;
    this.#key = key;
  }

  /** A new one for the domains of these headers. */
  static for(sandboxId: string, headers: readonly { domain: string }[]): Authority {
    return Authority.create(sandboxId, [...new Set(headers.map(({ domain }) => domain))]);
  }

  /** A new one, which is good for as long as any sandbox lives. */
  static create(sandboxId: string, domains: readonly string[], now = Date.now()): Authority {
    const key = newKey();
    const name = `Sandbar egress of ${sandboxId}`;
    const [notBefore, notAfter] = [now - BEFORE_MS, now + MAX_TIMEOUT_S * 1000 + AFTER_MS];
    const subject = { commonName: name, key, notBefore: new Date(notBefore), notAfter: new Date(notAfter) };
    const kept: KeptAuthority = {
      certificate: rootCertificate(subject, domains),
      key: key.export({ type: "pkcs8", format: "pem" }).toString(),
      name,
      not_before: notBefore,
      not_after: notAfter,
    };
    return new Authority(kept, key);
  }

  /** The same as it was. Throws where that makes no sense. */
  static from(kept: KeptAuthority): Authority {
    return new Authority(kept, createPrivateKey(kept.key));
  }

  /** What its sandbox is given, as PEM. */
  get certificate(): string {
    return this.#kept.certificate;
  }

  toJSON(): KeptAuthority {
    return this.#kept;
  }

  /** What a server of the domain needs. The domain must be one of the authority's: else nobody believes it. */
  contextOf(domain: string): SecureContext {
    const known = this.#contexts.get(domain);
    if (known) return known;
    const key = newKey();
    const { name, not_before, not_after, certificate } = this.#kept;
    const subject = {
      commonName: SERVER_NAME,
      key,
      notBefore: new Date(not_before),
      notAfter: new Date(not_after),
    };
    const context = createSecureContext({
      key: key.export({ type: "pkcs8", format: "pem" }),
      cert: serverCertificate(subject, domain, { commonName: name, key: this.#key }) + certificate,
      minVersion: "TLSv1.2",
    });
    this.#contexts.set(domain, context);
    return context;
  }
}

const newKey = (): KeyObject => generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
