import ipaddr from "ipaddr.js";
import { isCutOff, type NetworkPolicy } from "../../contract/network.ts";
import type { Egress } from "../runtime.ts";
import { withLeading } from "./forbidden.ts";

/** Where in the container the gate listens. */
export interface GatePorts {
  tcp: number;
  dns: number;
}

/** What the rules of a policy depend on besides. */
export interface Wiring {
  egress: Egress;
  /** Undefined where none is open, as none is needed. */
  gate: GatePorts | undefined;
  /** Those of the container's ports that the machine publishes. */
  rawPorts: readonly number[];
  /** Where no sandbox may connect to. */
  forbidden: readonly string[];
}

export const TABLE = "inet sandbar";
/** Who answers a container's questions for names: Docker's own resolver or, where there are rules, the gate. */
export const RESOLVER = "127.0.0.11";
/** Before Docker's own, whose resolver is a matter of address translation. */
const NAT_PRIORITY = -110;

/** Takes away what rules there are. */
export const NO_RULES = `table ${TABLE}\ndelete table ${TABLE}\n`;

/** Whether the kernel alone cannot judge by this policy, or not let pass. */
export function needsGate(policy: NetworkPolicy, egress: Egress): boolean {
  if (isCutOff(policy)) return false;
  return egress === "gated" || policy.outbound !== undefined || addsHeaders(policy);
}

/** Whether a container with this policy needs rules in its own network at all. */
export function needsRules(policy: NetworkPolicy, { egress, rawPorts }: Pick<Wiring, "egress" | "rawPorts">): boolean {
  if (egress === "gated" || policy.outbound !== undefined || addsHeaders(policy)) return true;
  return policy.inbound_cidrs !== undefined && rawPorts.length > 0;
}

const addsHeaders = ({ headers = [] }: NetworkPolicy): boolean => headers.length > 0;

/**
 * The rules of a policy, as a script for `nft` that sets them at once where there are none yet, or after {@link NO_RULES} in the place of
 * others. Every packet is judged, so that new rules hold for connections that exist, too; what they forbid is refused at once.
 */
export function rulesOf(policy: NetworkPolicy, wiring: Wiring): string {
  const sets = [
    ...rangeSets("outbound", policy.outbound?.cidrs ?? []),
    ...rangeSets("inbound", policy.inbound_cidrs ?? []),
    ...rangeSets("forbidden", withLeading(wiring.forbidden)),
  ];
  const chains = [
    block("chain refuse", ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]),
    // Also without a gate: the kernel translates no packet of what went to one, not even its end, once no chain is there.
    chain("divert", `nat hook output priority ${NAT_PRIORITY}`, "accept", redirects(policy, wiring)),
    chain("out", "filter hook output priority 0", "drop", departures(policy, wiring.egress)),
    ...(wiring.egress === "routed"
      ? [chain("in", "filter hook input priority 0", "accept", arrivals(policy, wiring.rawPorts))]
      : []),
  ];
  return `${block(`table ${TABLE}`, [...sets, ...chains])}\n`;
}

/** What goes to the gate, of connections that begin. */
function redirects(policy: NetworkPolicy, { egress, gate }: Wiring): string[] {
  if (!gate) return [];
  const dns = `meta l4proto { tcp, udp } th dport 53 redirect to :${gate.dns}`;
  const tcp = `meta l4proto tcp redirect to :${gate.tcp}`;
  const isJudgedByName = egress === "gated" || policy.outbound !== undefined;
  return [
    ...(isJudgedByName ? [`ip daddr ${RESOLVER} ${dns}`] : []),
    "ip daddr 127.0.0.0/8 accept",
    "ip6 daddr ::1 accept",
    ...(egress === "gated" ? [dns, tcp] : ['oifname "lo" accept', ...routedRedirects(policy, gate, dns, tcp)]),
  ];
}

/** Where the kernel lets pass what it can judge, and nothing is to be added to it. */
function routedRedirects(policy: NetworkPolicy, gate: GatePorts, dns: string, tcp: string): string[] {
  return [
    ...(addsHeaders(policy) ? [`tcp dport 443 redirect to :${gate.tcp}`] : []),
    ...(policy.outbound
      ? [
          "ip daddr @outbound4 accept",
          "ip6 daddr @outbound6 accept",
          dns,
          ...(policy.outbound.domains.length > 0 ? [tcp] : []),
        ]
      : []),
  ];
}

/** What leaves. A redirected packet is one to the loopback here. */
function departures(policy: NetworkPolicy, egress: Egress): string[] {
  const isJudgedByName = egress === "gated" || policy.outbound !== undefined;
  return [
    // Of connections that came from outside, and of the gate.
    "ct direction reply accept",
    ...(isJudgedByName ? [`ip daddr ${RESOLVER} goto refuse`] : []),
    "ip daddr 127.0.0.0/8 accept",
    "ip6 daddr ::1 accept",
    ...(egress === "routed" ? routedDepartures(policy) : []),
    "goto refuse",
  ];
}

function routedDepartures(policy: NetworkPolicy): string[] {
  return [
    // To an address of its own.
    "fib daddr type local accept",
    "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept",
    "ip daddr @forbidden4 goto refuse",
    "ip6 daddr @forbidden6 goto refuse",
    ...(policy.outbound ? ["ip daddr @outbound4 accept", "ip6 daddr @outbound6 accept"] : ["accept"]),
  ];
}

/**
 * What comes in. Of a connection that began in here and that the kernel has forgotten, what still comes would begin one anew, from outside,
 * and what leaves would be the answers: nothing begins but what may.
 */
function arrivals(policy: NetworkPolicy, rawPorts: readonly number[]): string[] {
  const raw = `tcp dport { ${rawPorts.join(", ")} }`;
  return [
    'iifname "lo" accept',
    ...(policy.outbound
      ? [
          // What routers say of packets on their way is nobody's answer.
          "ct state related accept",
          "ct direction reply ip saddr @outbound4 accept",
          "ct direction reply ip6 saddr @outbound6 accept",
          "ct direction reply drop",
          "ct state new tcp flags & (fin | syn | rst | ack) != syn drop",
        ]
      : ["ct direction reply accept"]),
    ...(policy.inbound_cidrs && rawPorts.length > 0
      ? [`${raw} ip saddr @inbound4 accept`, `${raw} ip6 saddr @inbound6 accept`, `${raw} goto refuse`]
      : []),
    ...(policy.outbound
      ? [
          ...(rawPorts.length > 0 ? [`${raw} accept`] : []),
          "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept",
          // From the machine itself.
          "ip saddr @forbidden4 accept",
          "ip6 saddr @forbidden6 accept",
          "drop",
        ]
      : []),
  ];
}

function chain(name: string, hook: string, policy: "accept" | "drop", rules: string[]): string {
  return block(`chain ${name}`, [`type ${hook}; policy ${policy};`, ...rules]);
}

/** A set of each kind of addresses. */
export function rangeSets(name: string, cidrs: readonly string[]): string[] {
  const ranges = cidrs.map((cidr) => ipaddr.parseCIDR(cidr));
  const elements = (kind: "ipv4" | "ipv6") =>
    ranges.filter(([address]) => address.kind() === kind).map(([address, bits]) => `${address.toString()}/${bits}`);
  return [rangeSet(`${name}4`, "ipv4_addr", elements("ipv4")), rangeSet(`${name}6`, "ipv6_addr", elements("ipv6"))];
}

function rangeSet(name: string, type: string, elements: string[]): string {
  return block(`set ${name}`, [
    `type ${type}`,
    "flags interval",
    "auto-merge",
    ...(elements.length > 0 ? [`elements = { ${elements.join(", ")} }`] : []),
  ]);
}

export function block(head: string, lines: readonly string[]): string {
  return `${head} {\n${lines.map((line) => `${line}\n`).join("")}}`;
}
