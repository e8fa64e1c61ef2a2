import { z } from "zod";
import { CidrsSchema } from "./cidr.ts";
import { NameSchema } from "./fields.ts";
import { HOP_BY_HOP } from "./forwarding.ts";

const MAX_DOMAINS = 100;
const MAX_DOMAIN_CHARACTERS = 253;
const LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?";
const DOMAIN = new RegExp(`^${LABEL}(?:\\.${LABEL})*$`);
const PATTERN = new RegExp(`^(?:\\*\\.)?${LABEL}(?:\\.${LABEL})*$`);
/** A name that ends in a number is an address to whoever resolves it. */
const ENDS_IN_NUMBER = /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/;

const domain = (form: RegExp, message: string) =>
  z
    .string()
    .max(MAX_DOMAIN_CHARACTERS)
    .transform((name) => name.toLowerCase())
    .refine((name) => form.test(name) && !ENDS_IN_NUMBER.test(name), message);

/** A domain by its name, in ASCII: `example.com`. */
export const DomainSchema = domain(
  DOMAIN,
  "must be a domain name in ASCII, without a scheme, port or final dot: example.com",
);
/** One domain, or with `*.` before it that and all below: `*.example.com` is `example.com`, `a.example.com` and `b.a.example.com`. */
export const DomainPatternSchema = domain(
  PATTERN,
  "must be a domain name in ASCII, without a scheme, port or final dot: example.com, or *.example.com for it and all below",
);
export const DomainPatternsSchema = z.array(DomainPatternSchema).max(MAX_DOMAINS);

/** Whether the patterns name the domain. A final dot and the case are of no account. */
export function namesDomain(patterns: readonly string[], name: string): boolean {
  const plain = name.toLowerCase().replace(/\.$/, "");
  return patterns.some((pattern) => {
    if (!pattern.startsWith("*.")) return pattern === plain;
    return plain === pattern.slice(2) || plain.endsWith(pattern.slice(1));
  });
}

/** Headers of one connection, and those that say where a request goes and where it ends: none of these can be added. */
const NEVER_ADDED = new Set([...HOP_BY_HOP, "content-length", "host"]);
const MAX_EGRESS_HEADERS = 20;
const MAX_PREFIX_CHARACTERS = 64;

/**
 * A header that requests to a domain get on their way out, over TLS on port 443: the value is one of a secret, and never in the sandbox.
 */
export const EgressHeaderSchema = z
  .strictObject({
    domain: DomainSchema,
    header: z
      .string()
      .max(128)
      .regex(/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/, "must be the name of a header")
      .transform((name) => name.toLowerCase())
      .refine((name) => !NEVER_ADDED.has(name), "cannot be added"),
    secret: NameSchema.meta({ description: "By id or name." }),
    key: z
      .string()
      .regex(/^[A-Za-z_][A-Za-z0-9_]*$/, "must be the name of a variable")
      .optional()
      .meta({ description: "Which of the secret's values; may be left out where it has one only." }),
    prefix: z
      .string()
      .max(MAX_PREFIX_CHARACTERS)
      .regex(/^[\x20-\x7e]*$/, "must be printable ASCII")
      .optional()
      .meta({ description: "Stands before the value: `Bearer `." }),
  })
  .meta({ id: "EgressHeader" });
export type EgressHeader = z.infer<typeof EgressHeaderSchema>;

export const EgressHeadersSchema = z
  .array(EgressHeaderSchema)
  .max(MAX_EGRESS_HEADERS)
  .refine(
    (headers) => new Set(headers.map(({ domain, header }) => `${domain} ${header}`)).size === headers.length,
    "must not name a header of a domain twice",
  );

/** Who may call a tunnel: anybody, or whoever has a token of `POST …/connect-tokens`. */
export const TUNNEL_AUTHS = ["none", "token"] as const;

/** The rules of a sandbox's network, as its host holds them. */
export const NetworkPolicySchema = z.strictObject({
  /** Where it may connect to: these addresses, and by TLS or HTTP these domains. Left out: everywhere that a sandbox may at all. */
  outbound: z.strictObject({ cidrs: CidrsSchema, domains: DomainPatternsSchema }).optional(),
  /** Who may connect to its published ports. Left out: anybody. */
  inbound_cidrs: CidrsSchema.optional(),
  /** What is added to its requests. */
  headers: z.array(z.strictObject({ domain: DomainSchema, header: z.string(), value: z.string() })).optional(),
});
export type NetworkPolicy = z.infer<typeof NetworkPolicySchema>;

/** Whether it may connect to nothing at all. */
export function isCutOff({ outbound }: NetworkPolicy): boolean {
  return outbound !== undefined && outbound.cidrs.length === 0 && outbound.domains.length === 0;
}
