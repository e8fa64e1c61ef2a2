import { describe, expect, it } from "vitest";
import { HostReportSchema } from "../../../src/contract/host-report.ts";
import { hostClassOf, refusals } from "../../../src/placement/judge.ts";
import type { PlacementRequest } from "../../../src/placement/rpc.ts";
import { reportOf } from "./fleet.ts";

const classOf = (create: PlacementRequest["create"]) => hostClassOf({ create });
const mounted = (...paths: string[]) =>
  Object.fromEntries(paths.map((path) => [path, { volume_id: `of-${path}`, read_only: false }]));
const probe = (command: string[]) => ({ readiness_probe: { exec: { command }, interval_ms: 100 } });
const header = (name: string) => ({ domain: "a.example", header: name, secret: "s" });

describe("the class of hosts that may have a sandbox", () => {
  it("holds nothing of what users write at length", () => {
    const long = probe(["test", "x".repeat(60_000)]);
    expect(classOf(long).key.length).toBeLessThan(200);
    expect(classOf(long).key).toBe(classOf(probe(["true"])).key);
  });

  it.each([
    [{ gpu: "H100" }, { gpu: "L4:2,ANY" }],
    [{ pty: { rows: 24, cols: 80 } }, { pty: { rows: 50, cols: 132 } }],
    [{ unencrypted_ports: [80] }, { unencrypted_ports: [80, 443] }],
    [{ image: "im-one" }, { image: "im-two" }],
    [{ cpu: 1 }, { cpu: 2 }],
    [{ volumes: mounted("/a") }, { volumes: mounted("/b", "/c") }],
    [{ volumes: {} }, {}],
    [{ outbound_cidr_allowlist: ["192.0.2.0/24"] }, { outbound_cidr_allowlist: ["2001:db8::/32", "10.0.0.0/8"] }],
    [{ outbound_domain_allowlist: ["a.example"] }, { outbound_domain_allowlist: ["*.b.example"] }],
    [{ egress_headers: [header("a")] }, { egress_headers: [header("b"), header("c")] }],
    [{ egress_headers: [] }, {}],
    [{ inbound_cidr_allowlist: ["192.0.2.0/24"] }, {}],
  ])("is one for what is judged alike: %j and %j", (one, other) => {
    expect(classOf(one).key).toBe(classOf(other).key);
  });

  it.each([
    [{ region: "a" }, { region: "b" }],
    [{ host_labels: { disk: "nvme" } }, { host_labels: { disk: "ssd" } }],
    [{ image: "one" }, { image: "two" }],
    [{ block_network: true }, { block_network: false }],
    [{ outbound_cidr_allowlist: ["192.0.2.0/24"] }, { outbound_cidr_allowlist: [] }],
    [{ outbound_domain_allowlist: ["a.example"] }, {}],
    [{ egress_headers: [header("a")] }, {}],
    [{ inbound_cidr_allowlist: [], unencrypted_ports: [80] }, { unencrypted_ports: [80] }],
    [{ gpu: "H100" }, {}],
    [{ volumes: mounted("/a") }, {}],
    [
      { readiness_probe: { tcp: { port: 1 }, interval_ms: 100 } },
      { readiness_probe: { tcp: { port: 2 }, interval_ms: 100 } },
    ],
  ])("is another for what is not: %j and %j", (one, other) => {
    expect(classOf(one).key).not.toBe(classOf(other).key);
  });
});

it("a label that no host has is not found in what every object has", () => {
  const { info } = reportOf("a", { labels: { disk: "nvme" } });
  const [error] = refusals({ create: { host_labels: { constructor: "x" } } }, info);
  expect(error).toEqual({ path: "host_labels.constructor", message: "no host has the label constructor" });
});

it("no device of a host is of the type that stands for all", () => {
  expect(HostReportSchema.safeParse(reportOf("a", { gpus: ["L4", 1] })).success).toBe(true);
  expect(HostReportSchema.safeParse(reportOf("a", { gpus: ["ANY", 1] })).success).toBe(false);
});

it.each([
  ["version", { version: "x".repeat(200) }],
  ["default image", { default_image: "x".repeat(600) }],
])("a host says nothing of itself at length: %s", (_, lie) => {
  const { info, ...rest } = reportOf("a");
  expect(HostReportSchema.safeParse({ ...rest, info: { ...info, ...lie } }).success).toBe(false);
});

it.each([
  ["regions", { regions: Array.from({ length: 1000 }, (_, at) => `r-${at}`) }],
  ["images", { images: ["x".repeat(600)] }],
])("nor of what it can do: %s", (_, lie) => {
  const { info, ...rest } = reportOf("a");
  const capabilities = { ...info.capabilities, ...lie };
  expect(HostReportSchema.safeParse({ ...rest, info: { ...info, capabilities } }).success).toBe(false);
});
