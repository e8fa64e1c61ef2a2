import { execFileSync } from "node:child_process";
import { connect } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lab, noLab } from "./lab.ts";

describe.skipIf(noLab !== undefined)("the lab", () => {
  let lab: Lab;
  let second: Lab;
  beforeAll(async () => {
    [lab, second] = await Promise.all([Lab.start(), Lab.start()]);
  });
  afterAll(async () => {
    await Promise.all([lab?.close(), second?.close()]);
    expect(execFileSync("ip", ["link"]).toString()).not.toContain(`${lab?.device}@`);
  });

  it("is reached by this machine, and says by whom", async () => {
    const { plan } = lab;
    const before = await lab.packets();
    const answer = await fetch(`http://${plan.allowed}/path?x`, { headers: { "x-test": "1" } });
    expect(await answer.json()).toMatchObject({
      lab: `${plan.allowed}:80`,
      url: "/path?x",
      headers: { "x-test": "1" },
    });
    const v6 = await fetch(`http://[${plan.attacker6}]/six`);
    expect(await v6.json()).toMatchObject({ lab: `${plan.attacker6}:80` });
    const hits = await lab.hits();
    expect(hits).toContainEqual({ kind: "http", address: plan.allowed, port: 80, text: `GET ${plan.allowed} /path?x` });
    expect(hits).toContainEqual({
      kind: "http",
      address: plan.attacker6,
      port: 80,
      text: `GET [${plan.attacker6}] /six`,
    });
    expect(await second.hits()).toEqual([]);
    const packets = await lab.packets();
    expect(packets[plan.allowed]!.moving).toBeGreaterThan(before[plan.allowed]!.moving + 1);
    expect(packets[plan.attacker]).toEqual(before[plan.attacker]);
  });

  it("has servers of TLS with names", async () => {
    const socket = connect({ host: lab.plan.attacker, port: 443, servername: "allowed.test", ca: lab.ca });
    await new Promise((resolve, reject) => socket.once("secureConnect", resolve).once("error", reject));
    socket.destroy();
    expect(await lab.hits()).toContainEqual({ kind: "tls", address: "", port: 443, text: "allowed.test" });
  });

  it("has a resolver whose answers change", async () => {
    const ask = (name: string) =>
      execFileSync("python3", ["-c", ASK, lab.plan.resolver, name], { timeout: 5_000 }).toString().trim();
    expect(ask("evil.test")).toBe(lab.plan.attacker);
    expect(ask("data.evil.test")).toBe(lab.plan.attacker);
    expect([ask("rebind.test"), ask("rebind.test")]).toEqual([lab.plan.allowed, "169.254.169.254"]);
    await lab.name("mine.test", ["10.9.8.7"]);
    expect(ask("mine.test")).toBe("10.9.8.7");
    expect(await lab.hits()).toContainEqual({ kind: "dns", address: lab.plan.resolver, port: 53, text: "A mine.test" });
  });
});

const ASK = `
import socket, struct, sys
name = b"".join(bytes([len(l)]) + l.encode() for l in sys.argv[2].split(".")) + b"\\0"
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
s.sendto(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1), (sys.argv[1], 53))
print(socket.inet_ntoa(s.recv(512)[-4:]))
`;
