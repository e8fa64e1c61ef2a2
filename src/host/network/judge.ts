import { CidrSet } from "../../contract/cidr.ts";
import { namesDomain, type NetworkPolicy } from "../../contract/network.ts";
import type { Forbidden } from "./forbidden.ts";

/** What of the machine counts for its sandboxes' rules. */
export interface JudgeContext {
  forbidden: Pick<Forbidden, "has">;
  /** Those that the machine asks for names. */
  nameServers: readonly string[];
}

/** What the rules of a sandbox say of where it wants to connect to. */
export class Judge {
  readonly #forbidden: JudgeContext["forbidden"];
  readonly #cidrs: CidrSet | undefined;
  readonly #domains: readonly string[];
  readonly #asksNameServers: boolean;

  constructor({ outbound }: NetworkPolicy, { forbidden, nameServers }: JudgeContext) {
    this.#forbidden = forbidden;
    this.#domains = outbound?.domains ?? [];
    const cidrs = outbound && new CidrSet(outbound.cidrs);
    this.#cidrs = cidrs;
    this.#asksNameServers = !cidrs || (nameServers.length > 0 && nameServers.every((server) => cidrs.has(server)));
  }

  /** Whether some domains are open to it, and it must be seen which one a connection is for. */
  get opensDomains(): boolean {
    return this.#domains.length > 0;
  }

  /** Whether it may never connect there, also not by a name. */
  isForbidden(address: string): boolean {
    return this.#forbidden.has(address);
  }

  /** Whether it may connect to the address as it is, whatever it says there. */
  allowsAddress(address: string): boolean {
    return !this.isForbidden(address) && (this.#cidrs?.has(address) ?? true);
  }

  /** Whether it may connect to the domain. */
  allowsName(name: string): boolean {
    return !this.#cidrs || namesDomain(this.#domains, name);
  }

  /** Whether it gets to know the domain's addresses: asking for one tells whoever answers something, like a connection to the name servers. */
  resolves(name: string): boolean {
    return this.#asksNameServers || namesDomain(this.#domains, name);
  }
}
