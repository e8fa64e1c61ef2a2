import { execFileSync } from "node:child_process";
import { networkInterfaces } from "node:os";
import { describe, expect, test } from "vitest";
import { Forbidden, FORBIDDEN_EVERYWHERE } from "../../../src/host/network/forbidden.ts";
import { Judge } from "../../../src/host/network/judge.ts";
import { connectedIpv4, ipv6Interfaces, localIpv4 } from "../../../src/host/network/machine-addresses.ts";
import { failureAsRoot } from "../as-root.ts";
import { outbound } from "./gated-box.ts";

describe("what no sandbox may reach", () => {
  const forbidden = new Forbidden(() => ["192.0.2.7/32", "172.18.0.0/16", "2001:db8::7/128"]);

  test.each([
    "0.0.0.0",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "224.0.0.1",
    "255.255.255.255",
    "192.0.2.7",
    "172.18.3.4",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "2001:db8::7",
    "::ffff:127.0.0.1",
    "::ffff:a9fe:a9fe",
    "::ffff:172.18.3.4",
    "::ffff:0:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b::c000:207",
    "2002:a9fe:a9fe::1",
    "2002:ac12:304::",
    "0177.0.0.1",
    "0x7f.1",
    "not an address",
    "",
  ])("%s", (address) => {
    expect(forbidden.has(address)).toBe(true);
  });

  test.each([
    "192.0.2.8",
    "10.0.0.1",
    "172.19.0.1",
    "8.8.8.8",
    "2001:db8::8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "::ffff:8.8.8.8",
  ])("not %s", (address) => {
    expect(forbidden.has(address)).toBe(false);
  });

  test("the addresses of this machine, each time as they are", async () => {
    const machine = Forbidden.ofThisMachine();
    for (const { address } of Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])) {
      expect(machine.has(address), address).toBe(true);
    }
    let own: string[] = [];
    const changing = new Forbidden(() => own);
    expect(changing.has("192.0.2.9")).toBe(false);
    own = ["192.0.2.9/32"];
    await expect.poll(() => changing.has("192.0.2.9"), { timeout: 5_000 }).toBe(true);
    expect(changing.ranges()).toEqual([...FORBIDDEN_EVERYWHERE, "192.0.2.9/32"]);
  });

  test.skipIf(failureAsRoot("sh", "-c", "command -v ip"))(
    "the network of a bridge, also while nothing is on it",
    () => {
      const ip = (...args: string[]) => execFileSync("ip", args);
      ip("link", "add", "sbjudge0", "type", "bridge");
      try {
        ip("address", "add", "203.0.113.241/28", "dev", "sbjudge0");
        ip("address", "add", "2001:db8:99::1/64", "dev", "sbjudge0", "nodad");
        ip("link", "set", "sbjudge0", "up");
        const machine = Forbidden.ofThisMachine();
        for (const address of ["203.0.113.241", "203.0.113.250", "2001:db8:99::1", "2001:db8:99::beef"]) {
          expect(machine.has(address), address).toBe(true);
        }
        expect(machine.has("203.0.113.239")).toBe(false);
      } finally {
        ip("link", "delete", "sbjudge0");
      }
    },
  );

  test("the kernel's tables are read as they are written", () => {
    const trie =
      "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.2\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
    expect(localIpv4(trie)).toEqual(["192.0.2.2/32"]);
    expect(ipv6Interfaces("20010db8000000000000000000000001 02 40 00 80     eth0\n")).toEqual([
      { address: "2001:db8::1", prefix: 64, name: "eth0" },
    ]);
    const routes =
      "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\neth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\ndocker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\n";
    expect(connectedIpv4(routes)).toEqual([{ range: "172.17.0.0/16", name: "docker0" }]);
  });
});

describe("the rules of a sandbox", () => {
  const forbidden = new Forbidden(() => []);
  const judge = (policy: ReturnType<typeof outbound> | {}, nameServers = ["192.0.2.53"]) =>
    new Judge(policy, { forbidden, nameServers });

  test("without a list everything is allowed but what is forbidden", () => {
    const open = judge({});
    expect([open.allowsAddress("8.8.8.8"), open.allowsAddress("169.254.169.254")]).toEqual([true, false]);
    expect([open.allowsName("any.test"), open.resolves("any.test"), open.opensDomains]).toEqual([true, true, false]);
  });

  test("empty lists allow nothing", () => {
    const none = judge(outbound([]));
    expect([none.allowsAddress("8.8.8.8"), none.allowsName("a.test"), none.resolves("a.test")]).toEqual([
      false,
      false,
      false,
    ]);
  });

  test("what is allowed is not forbidden all the same", () => {
    const all = judge(outbound(["0.0.0.0/0", "::/0"]));
    for (const address of ["169.254.169.254", "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe"]) {
      expect(all.allowsAddress(address), address).toBe(false);
    }
    expect([all.allowsAddress("8.8.8.8"), all.allowsAddress("2001:db8::1"), all.allowsName("a.test")]).toEqual([
      true,
      true,
      false,
    ]);
  });

  test("a pattern names the domain and those below, by whole labels", () => {
    const { allowsName, resolves } = bound(judge(outbound([], ["*.a.test", "b.test"])));
    for (const name of ["a.test", "x.a.test", "x.y.a.test", "b.test"])
      expect([allowsName(name), resolves(name)]).toEqual([true, true]);
    for (const name of ["xa.test", "x.b.test", "test", "a.test.evil.test"])
      expect([allowsName(name), resolves(name)]).toEqual([false, false]);
  });

  test("all name servers must be allowed before other names are looked up", () => {
    const cidrs = outbound(["192.0.2.0/24"], ["a.test"]);
    expect(judge(cidrs).resolves("b.test")).toBe(true);
    for (const servers of [["192.0.2.53", "198.51.100.53"], ["::1"], []]) {
      const { resolves } = bound(judge(cidrs, servers));
      expect([resolves("b.test"), resolves("a.test")], String(servers)).toEqual([false, true]);
    }
  });

  const bound = (one: Judge) => ({
    allowsName: (name: string) => one.allowsName(name),
    resolves: (name: string) => one.resolves(name),
  });
});
