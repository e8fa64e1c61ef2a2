import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { promisify } from "node:util";
import { parseAddress } from "../../contract/cidr.ts";
import { isRoot } from "../linux/programs.ts";
import { Forbidden, withLeading } from "../network/forbidden.ts";
import { setRules } from "../network/nft.ts";
import { block, rangeSets } from "../network/rules.ts";

const TABLE = "inet sandbar_host";
/** Link-local addresses: where clouds keep a machine's credentials. */
const METADATA_ADDRESSES = "169.254.0.0/16";
const IPTABLES_TIMEOUT_MS = 10_000;
const SET_ANEW_MS = 60_000;

/**
 * Keeps the containers on a bridge from this machine itself and from what no sandbox may reach, as far as this daemon may set the machine's
 * filter; says what it may not. Several daemons set the same. Set anew all the time: a firewall that is loaded takes all rules away, and
 * the machine may get other addresses. Done once they are set for the first time.
 */
export async function keepBridgeFiltered(bridge: string, everyMs = SET_ANEW_MS): Promise<void> {
  if (!(await filterBridge(bridge))) return;
  const again = () => {
    setTimeout(() => void filterBridge(bridge).finally(again), everyMs).unref();
  };
  again();
}

/** False where it cannot be set as a whole. */
async function filterBridge(bridge: string): Promise<boolean> {
  try {
    if (!isRoot) throw new Error("only root can");
    await setRules(
      machineRules(bridge, { forbidden: Forbidden.ofThisMachine().ranges(), resolvers: await resolvers() }),
    );
    return true;
  } catch (error) {
    const blocked = await blockMetadata(bridge);
    const reach = blocked ? "this machine's own services" : `this machine's own services and ${METADATA_ADDRESSES}`;
    console.error(`sandbar host: sandboxes can reach ${reach}: nftables cannot be set here (${messageOf(error)})`);
    return false;
  }
}

/** Answers to what this machine itself dials pass, and its resolver where it is one for its containers. */
export function machineRules(
  bridge: string,
  { forbidden, resolvers: dnsServers }: { forbidden: readonly string[]; resolvers: readonly string[] },
): string {
  const from = `iifname "${bridge}"`;
  const lines = [
    ...rangeSets("forbidden", withLeading(forbidden)),
    ...rangeSets(
      "resolvers",
      dnsServers.map((address) => `${address}/${isIP(address) === 6 ? 128 : 32}`),
    ),
    block("chain refuse", ["meta l4proto tcp reject with tcp reset", "reject with icmpx admin-prohibited"]),
    block("chain input", [
      "type filter hook input priority -10; policy accept;",
      `${from} ct state established,related accept`,
      `${from} icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept`,
      `${from} meta l4proto { tcp, udp } th dport 53 ip daddr @resolvers4 accept`,
      `${from} meta l4proto { tcp, udp } th dport 53 ip6 daddr @resolvers6 accept`,
      `${from} goto refuse`,
    ]),
    block("chain forward", [
      "type filter hook forward priority -10; policy accept;",
      `${from} ct direction reply accept`,
      `${from} ip daddr @forbidden4 goto refuse`,
      `${from} ip6 daddr @forbidden6 goto refuse`,
      // To another container of the bridge.
      `${from} oifname "${bridge}" goto refuse`,
    ]),
  ];
  return `table ${TABLE}\ndelete table ${TABLE}\n${block(`table ${TABLE}`, lines)}\n`;
}

/** Those that the engine hands on to what its containers ask. On the loopback it asks them by itself. */
async function resolvers(): Promise<string[]> {
  const text = await readFile("/etc/resolv.conf", "utf8").catch(() => "");
  const found = [...text.matchAll(/^nameserver\s+([0-9a-fA-F.:]+)/gm)].map(([, address]) => address!);
  return found.filter((address) => (parseAddress(address)?.range() ?? "loopback") !== "loopback");
}

/** `DOCKER-USER` is the chain that Docker leaves to the machine's owner, asked before its own. False where that cannot be set either. */
async function blockMetadata(bridge: string): Promise<boolean> {
  const rule = ["DOCKER-USER", "-i", bridge, "-d", METADATA_ADDRESSES, "-j", "DROP"];
  const run = (action: string) =>
    promisify(execFile)("iptables", ["-w", "5", action, ...rule], { timeout: IPTABLES_TIMEOUT_MS });
  try {
    await run("-C").catch(() => run("-I"));
    return true;
  } catch (error) {
    console.error(`sandbar host: iptables cannot be set here (${messageOf(error)})`);
    return false;
  }
}

const messageOf = (error: unknown): string =>
  String((error as { stderr?: string }).stderr ?? "").trim() ||
  (error instanceof Error ? error.message : String(error));
