/** How many labs a machine can have at a time: each has a sixteenth of the ranges kept for examples. */
export const MAX_LABS = 16;

/** TCP ports on which every server says who it is, `lab ADDRESS:PORT`, and says again what it is told. */
export const BANNER_PORTS = [21, 22, 25, 123, 853, 1234, 3306, 5432, 6379, 8080, 9999];
/** TCP port on which every server tells of all it hears, and answers it as HTTP, whatever it is. */
export const ANYTHING_PORT = 8081;
/** UDP ports on which every server answers the same way; DNS is on 53. */
export const DATAGRAM_PORTS = [123, 443, 5353, 9999];

/** Where clouds keep the credentials of a machine, and where a translator of addresses would lead there. */
export const METADATA = ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"] as const;

/** Who has which address in a lab. */
export interface Plan {
  /** This machine, on the way there. */
  host: string;
  host6: string;
  allowed: string;
  allowed6: string;
  other: string;
  /** Has the names of `names`, for whoever asks at port 53. */
  resolver: string;
  attacker: string;
  attacker6: string;
}

export function planOf(index: number): Plan {
  const v4 = (network: string, host: number) => `${network}.${16 * index + host}`;
  const v6 = (network: string, host: number) => `2001:db8:${(index + 1).toString(16)}${network}::${host}`;
  return {
    host: v4("198.51.100", 1),
    host6: v6("", 1),
    allowed: v4("198.51.100", 2),
    allowed6: v6("", 2),
    other: v4("198.51.100", 3),
    resolver: v4("198.51.100", 5),
    attacker: v4("203.0.113", 2),
    attacker6: v6(":bad", 2),
  };
}

/** This machine's addresses on the way to the lab, and the lab's own, with their prefixes. */
export function addressesOf(plan: Plan): { host: string[]; lab: string[] } {
  const nextTo = (address: string) => address.replace(/2$/, "1");
  const attackerHost = `${plan.attacker.replace(/\d+$/, (last) => String(Number(last) - 1))}/28`;
  return {
    host: [`${plan.host}/28`, attackerHost, `${plan.host6}/64`, `${nextTo(plan.attacker6)}/64`],
    lab: [
      ...[plan.allowed, plan.other, plan.resolver, plan.attacker].map((address) => `${address}/28`),
      ...[plan.allowed6, plan.attacker6].map((address) => `${address}/64`),
      ...METADATA.map((address) => `${address}/${address.includes(":") ? 128 : 32}`),
    ],
  };
}

/**
 * Answers to a name, one after the other and then from the beginning: each is addresses, or another name. `*.x` is every name below
 * that has no answers of its own.
 */
export type Names = Record<string, string[][]>;

export const namesOf = (plan: Plan): Names => ({
  "allowed.test": [[plan.allowed]],
  "sub.allowed.test": [[plan.allowed]],
  "other.test": [[plan.other]],
  "evil.test": [[plan.attacker]],
  "*.evil.test": [[plan.attacker]],
  "v6.test": [[plan.allowed6]],
  "both.test": [[plan.allowed, plan.allowed6]],
  "meta.test": [["169.254.169.254"]],
  "meta6.test": [["fd00:ec2::254"]],
  "mapped.test": [["::ffff:169.254.169.254"]],
  "nat64.test": [["64:ff9b::a9fe:a9fe"]],
  "alias.test": [["meta.test"]],
  "mixed.test": [["169.254.169.254", plan.allowed]],
  "inside.test": [[plan.host]],
  "loop.test": [["127.0.0.1"]],
  "zero.test": [["0.0.0.0"]],
  "rebind.test": [[plan.allowed], ["169.254.169.254"], [plan.host]],
});

/** Somebody who reached a server of the lab, and what was said. */
export interface Hit {
  /** `tcp`: a connection. `http` and `https`: a request, `METHOD HOST TARGET`. `tls`: the name of a hello. `dns`: `TYPE NAME`. */
  kind: "tcp" | "said" | "udp" | "http" | "https" | "tls" | "dns";
  /** Of the server; empty of a `tls`. */
  address: string;
  port: number;
  text: string;
}

/** Packets that came to an address: all, and those of TCP that open a connection or carry bytes. */
export interface Packets {
  all: number;
  moving: number;
}

export interface Dial {
  /** An address of the lab. */
  from: string;
  host: string;
  port: number;
  send?: string;
}

/** What a test asks of the lab, and the answers. */
export interface Calls {
  begin: { ask: Plan; answer: { ca: string } };
  hits: { ask: null; answer: Hit[] };
  forget: { ask: null; answer: null };
  name: { ask: { name: string; answers: string[][] }; answer: null };
  packets: { ask: null; answer: Record<string, Packets> };
  dial: { ask: Dial; answer: string };
}
export type CallName = keyof Calls;
