import { randomBytes } from "node:crypto";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import type { Plan } from "./lab-plan.ts";

/** The rules under which sandboxes attack. */
export const POLICIES = ["none", "all", "off", "names", "headers", "ranges"] as const;
export type PolicyName = (typeof POLICIES)[number];
/** Those that let nobody reach the attacker. */
export const STRICT = ["off", "names", "headers", "ranges"] as const satisfies PolicyName[];
/** Those of them that do not open an allowed server's address. */
export const BY_NAME = ["off", "names", "headers"] as const satisfies PolicyName[];
export type RuntimeName = "docker" | "embedded";

/** What is attacked. */
export interface Scene {
  plan: Plan;
  /** This machine's own addresses, and where it listens by TCP and UDP. */
  hosts: string[];
  hostPort: number;
  siblings: Sibling[];
}

/** A container of others: at its own address, and at this machine's. */
export interface Sibling {
  address: string;
  port: number;
  published: { isIpv6: boolean; port: number }[];
}

export function policiesOf({ plan, hosts }: Scene): Record<PolicyName, NetworkPolicy | undefined> {
  const odd = ["meta", "meta6", "mapped", "nat64", "alias", "mixed", "inside", "loop", "zero", "rebind"];
  const domains = ["allowed", ...odd, "sibling0", "sibling1"].map((name) => `${name}.test`);
  const never = [
    "169.254.169.254/32",
    "100.64.0.0/10",
    "fd00::/8",
    "64:ff9b::/96",
    "127.0.0.0/8",
    "0.0.0.0/8",
    "::1/128",
  ];
  const own = hosts.map((address) => `${address}/${address.includes(":") ? 128 : 32}`);
  const cidrs = [`${plan.allowed}/32`, ...never, "172.16.0.0/12", "fe80::/10", ...own];
  return {
    none: undefined,
    all: { outbound: { cidrs: ["0.0.0.0/0", "::/0"], domains: ["*.test"] } },
    off: { outbound: { cidrs: [], domains: [] } },
    names: { outbound: { cidrs: [], domains } },
    headers: {
      outbound: { cidrs: [], domains },
      headers: [{ domain: "allowed.test", header: "x-key", value: "secret" }],
    },
    ranges: { outbound: { cidrs, domains: [] } },
  };
}

/** What `attacks.py` is told to do: `op` is one of its functions. `TOKEN` in it is what it is known by. */
export type Attempt = { op: string } & Record<string, unknown>;

export interface Attack {
  name: string;
  attempt: Attempt;
  /**
   * It has reached its aim where a server says that it is one of these (`lab WHO:`), or was told its token there. `anywhere`: where
   * any server was told. `packets`: where the kernel has seen any packet to them.
   */
  reaches: readonly string[] | "anywhere";
  by?: "packets";
  /** Where the same reaches its aim: in a sandbox with these rules, or on this machine itself. */
  allowed: PolicyName | "host";
  /** How it is done there, where that is another way. */
  control?: Attempt;
  forbidden: readonly PolicyName[];
  /** It is refused without a word: nobody can tell at once. */
  isSilent?: boolean;
}

export const newToken = () => `t${randomBytes(6).toString("hex")}`;

/** A request of HTTP, and an attempt that says something by TCP. */
export const request = (host: string, target = "/TOKEN", more = "") =>
  `GET ${target} HTTP/1.1\r\nhost: ${host}\r\n${more}\r\n`;
export const ask = (host: string, port: number, send: string, more: object = {}): Attempt => {
  return { op: "tcp", host, port, send, ...more };
};
