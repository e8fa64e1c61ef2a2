import { execFile } from "node:child_process";
import { connect } from "node:net";
import { promisify } from "node:util";
import { LabDns } from "./lab-dns.ts";
import { addressesOf, ANYTHING_PORT, BANNER_PORTS, DATAGRAM_PORTS, METADATA, namesOf } from "./lab-plan.ts";
import type { CallName, Calls, Dial, Hit, Packets, Plan } from "./lab-plan.ts";
import { anything, banners, datagrams, http, https } from "./lab-servers.ts";
import { makeCertificates } from "./lab-certificates.ts";

/** The servers of a lab: the process that lives in its namespace. Ends with whoever began it. */

const run = promisify(execFile);
const hits: Hit[] = [];
const record = (hit: Hit) => void hits.push(hit);
const dns = new LabDns(record);
let counted: string[] = [];

type Handlers = { [name in CallName]: (ask: Calls[name]["ask"]) => Promise<Calls[name]["answer"]> };
const handlers: Handlers = {
  async begin(plan) {
    await setUp(plan);
    Object.assign(dns.names, namesOf(plan));
    const addresses = addressesOf(plan).lab.map((address) => address.replace(/\/.*/, ""));
    const { ca, key, certificate } = await makeCertificates();
    await Promise.all([
      ...BANNER_PORTS.map((port) => banners(port, record)),
      ...addresses.flatMap((address) => DATAGRAM_PORTS.map((port) => datagrams(address, port, record))),
      anything(ANYTHING_PORT, record),
      http(80, record),
      https(443, { key, cert: certificate }, record),
      dns.listen(addresses),
    ]);
    return { ca };
  },
  hits: async () => hits,
  async forget() {
    hits.length = 0;
    return null;
  },
  async name({ name, answers }) {
    dns.names[name] = answers;
    return null;
  },
  async packets() {
    const { stdout } = await run("nft", ["-j", "list", "counters"]);
    const listed = (JSON.parse(stdout) as { nftables: { counter?: { name: string; packets: number } }[] }).nftables;
    const of = new Map(listed.flatMap(({ counter }) => (counter ? [[counter.name, counter.packets] as const] : [])));
    const entry = (address: string, index: number): [string, Packets] => {
      return [address, { all: of.get(`all${index}`)!, moving: of.get(`moving${index}`)! }];
    };
    return Object.fromEntries(counted.map(entry));
  },
  dial: (dial) => reach(dial),
};

/** Addresses, the way back, and a count of every packet that comes. */
async function setUp(plan: Plan): Promise<void> {
  const { lab } = addressesOf(plan);
  const links = ["link set lo up", "link set lab up", ...lab.map((address) => `address add ${address} dev lab`)];
  const lines = [...links, `route add default via ${plan.host}`, `-6 route add default via ${plan.host6} dev lab`];
  for (const line of lines) {
    const noDad = line.includes("address add") && line.includes(":") ? ["nodad"] : [];
    await run("ip", [...line.split(" "), ...noDad]);
  }
  counted = [plan.allowed, plan.allowed6, plan.other, plan.resolver, plan.attacker, plan.attacker6, ...METADATA];
  const rules = counted.map((address, index) => {
    const to = `${address.includes(":") ? "ip6" : "ip"} daddr ${address}`;
    return `${to} counter name all${index}\n${to} tcp flags & (syn|psh) != 0 counter name moving${index}`;
  });
  const counters = counted.map((_, index) => `counter all${index} {}\ncounter moving${index} {}`);
  const neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept";
  const chain = `chain count { type filter hook prerouting priority -300; ${neighbours}\n${rules.join("\n")}\n}`;
  const loading = run("nft", ["-f", "-"]);
  loading.child.stdin!.end(`table inet lab {\n${counters.join("\n")}\n${chain}\n}`);
  await loading;
}

/** What a server says to whoever comes from an address of the lab; or the error that comes instead. */
function reach({ from, host, port, send }: Dial): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect({ host, port, localAddress: from, timeout: 2_000 });
    const end = (answer: string) => {
      resolve(answer);
      socket.destroy();
    };
    socket.on("connect", () => send !== undefined && socket.write(send));
    socket.on("data", (chunk) => (text += chunk.toString("latin1")));
    socket.on("timeout", () => end(text || "timeout"));
    socket.on("error", (error: NodeJS.ErrnoException) => end(text || String(error.code)));
    socket.on("end", () => end(text || "closed"));
  });
}

interface Message {
  id: number;
  name: CallName;
  ask: never;
}
process.on("message", ({ id, name, ask }: Message) => {
  handlers[name](ask).then(
    (answer) => process.send!({ id, answer }),
    (error: unknown) => process.send!({ id, error: String(error) }),
  );
});
process.on("disconnect", () => process.exit());
process.send!("up");
