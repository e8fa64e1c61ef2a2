import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from "vitest";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import { forbidden } from "../../../src/host/network/forbidden-connections.ts";
import { networkCapabilities, setRules, whyNoRules } from "../../../src/host/network/nft.ts";
import { needsGate, needsRules, NO_RULES, rulesOf, type Wiring } from "../../../src/host/network/rules.ts";
import type { OpenSocket } from "../../../src/host/network/open-sockets.ts";
import { noLab } from "./lab.ts";
import { OwnNetwork } from "./own-network.ts";

const cidrs = ["192.0.2.1/24", "2001:db8::/32"];
const headers = [{ domain: "api.example.com", header: "authorization", value: "x" }];
const POLICIES: [string, NetworkPolicy][] = [
  ["nothing", {}],
  ["cut off", { outbound: { cidrs: [], domains: [] } }],
  ["ranges", { outbound: { cidrs, domains: [] } }],
  ["everything, in overlapping ranges", { outbound: { cidrs: ["0.0.0.0/0", "10.0.0.0/8", "::/0"], domains: [] } }],
  ["domains", { outbound: { cidrs, domains: ["example.com"] } }],
  ["headers", { headers }],
  ["inbound", { inbound_cidrs: cidrs }],
  ["nobody", { inbound_cidrs: [] }],
];
const wiring = (more: Partial<Wiring> = {}): Wiring => ({
  egress: "routed",
  gate: { tcp: 4000, dns: 4001 },
  rawPorts: [7000],
  forbidden: ["169.254.0.0/16", "fe80::/10"],
  ...more,
});
const named = (name: string) => POLICIES.find(([one]) => one === name)![1];

describe("rules of a network", () => {
  it.each([
    ["nothing", { routed: [false, false], gated: [true, true] }],
    ["cut off", { routed: [true, false], gated: [true, false] }],
    ["ranges", { routed: [true, true], gated: [true, true] }],
    ["domains", { routed: [true, true], gated: [true, true] }],
    ["headers", { routed: [true, true], gated: [true, true] }],
    ["inbound", { routed: [true, false], gated: [true, true] }],
  ] as const)("are needed, and a gate, where the kernel cannot do without: %s", (name, needed) => {
    for (const egress of ["routed", "gated"] as const) {
      const policy = named(name);
      expect([needsRules(policy, wiring({ egress })), needsGate(policy, egress)]).toEqual(needed[egress]);
    }
  });

  it("are not needed for who may come in where nothing is published", () => {
    expect(needsRules(named("inbound"), { egress: "routed", rawPorts: [] })).toBe(false);
  });

  it("lead to the gate what the kernel cannot judge", () => {
    const divert = (name: string, egress: "routed" | "gated" = "routed") => {
      const text = rulesOf(named(name), wiring({ egress }));
      return /chain divert \{([^}]*(?:\{[^}]*\}[^}]*)*?)\n\}/
        .exec(text)![1]!
        .split("\n")
        .filter((rule) => rule.includes("redirect"));
    };
    const dns = "meta l4proto { tcp, udp } th dport 53 redirect to :4001";
    const tcp = "meta l4proto tcp redirect to :4000";
    expect(divert("ranges")).toEqual([`ip daddr 127.0.0.11 ${dns}`, dns]);
    expect(divert("domains")).toEqual([`ip daddr 127.0.0.11 ${dns}`, dns, tcp]);
    expect(divert("headers")).toEqual(["tcp dport 443 redirect to :4000"]);
    expect(divert("nothing", "gated")).toEqual([`ip daddr 127.0.0.11 ${dns}`, dns, tcp]);
  });

  it("are those of the connections that are ended by force", () => {
    const socket = (local: [string, number], remote: [string, number], isListening = false): OpenSocket => ({
      local: { address: local[0], port: local[1] },
      remote: { address: remote[0], port: remote[1] },
      isListening,
      family: 2,
      id: Buffer.alloc(0),
    });
    const me = "172.18.0.2";
    const sockets = {
      listening: socket(["0.0.0.0", 8000], ["0.0.0.0", 0], true),
      accepted: socket([me, 8000], ["172.18.0.1", 5000]),
      raw: socket([me, 7000], ["198.51.100.1", 5000]),
      rawOfSomebody: socket([me, 7000], ["192.0.2.9", 5000]),
      allowed: socket([me, 5001], ["192.0.2.9", 443]),
      refused: socket([me, 5002], ["198.51.100.1", 443]),
      refused6: socket(["2001:db9::1", 5002], ["2001:db9::2", 443]),
      throughGate: socket([me, 5003], ["198.51.100.1", 443]),
      ofGate: socket(["127.0.0.1", 4000], [me, 5003]),
      toItself: socket([me, 5004], [me, 8000]),
      loopback: socket(["127.0.0.1", 5005], ["127.0.0.1", 8000]),
    };
    const ended = (policy: NetworkPolicy) => {
      const chosen = forbidden(Object.values(sockets), policy, wiring());
      return Object.entries(sockets).flatMap(([name, one]) => (chosen.includes(one) ? [name] : []));
    };
    expect(ended({})).toEqual([]);
    expect(ended(named("ranges"))).toEqual(["refused", "refused6"]);
    expect(ended(named("inbound"))).toEqual(["raw"]);
    expect(ended({ ...named("cut off"), inbound_cidrs: [] })).toEqual([
      "raw",
      "rawOfSomebody",
      "allowed",
      "refused",
      "refused6",
    ]);
  });
});

describe.skipIf(noLab !== undefined)("a kernel", () => {
  let box: OwnNetwork;
  let namespace: number;
  beforeAll(async () => {
    box = await OwnNetwork.open();
    namespace = box.namespace;
  });
  afterAll(() => box?.close());

  it.each(["routed", "gated"] as const)("can be told to: %s", async (egress) => {
    expect(await whyNoRules(egress)).toBeUndefined();
    const all = { network_rules: true, egress_headers: true, block_network: true };
    expect(await networkCapabilities(egress)).toEqual(all);
  });

  it("are not promised where the runtime stands in the way, which is said", async () => {
    const log = vi.spyOn(console, "error").mockImplementation(() => {});
    onTestFinished(() => log.mockRestore());
    expect(await networkCapabilities("routed", "its containers have a kernel of their own")).toEqual({});
    expect(log.mock.calls).toEqual([
      ["sandbar host: no rules can be set for the network of a sandbox: its containers have a kernel of their own"],
    ]);
  });

  it.each(POLICIES)("takes the rules of a policy: %s", async (_, policy) => {
    for (const egress of ["routed", "gated"] as const) {
      const gate = needsGate(policy, egress) ? { tcp: 4000, dns: 4001 } : undefined;
      await setRules(NO_RULES + rulesOf(policy, wiring({ egress, gate })), namespace);
      await setRules(NO_RULES + rulesOf(policy, wiring({ egress, gate, rawPorts: [] })), namespace);
    }
  });

  it("takes all of them or none, and says what is wrong", async () => {
    await expect(setRules(`${rulesOf({}, wiring())}table inet nonsense { chain }\n`, namespace)).rejects.toThrow(
      "nft: ",
    );
  });
});
