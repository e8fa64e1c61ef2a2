import { mkdirSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import { Networks } from "../../../src/host/network/networks.ts";
import { Forbidden } from "../../../src/host/network/forbidden.ts";
import { Names } from "../../../src/host/network/names.ts";
import { DockerHost, IMAGE, noEngine, sh, spec } from "../docker-host.ts";
import { until } from "../signed-host.ts";
import { warmSpec } from "../warm-host.ts";
import { noLab } from "./lab.ts";
import { CONNECT, networksSuite } from "./networks-suite.ts";

const PORT = 7000;
const SERVE = `
import socket
server = socket.create_server(("0.0.0.0", ${PORT}))
while True:
    connection = server.accept()[0]
    connection.sendall(b"inside\\n")
    connection.close()
`;
const CUT_OFF: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };

describe.skipIf((noLab ?? noEngine) !== undefined)("networks of docker containers", () => {
  const started = networksSuite("docker", IMAGE);
  const hosts: DockerHost[] = [];
  const open = async (options?: { useLauncher: boolean }) => {
    const host = await DockerHost.open(options);
    hosts.push(host);
    const { egress, capabilities } = host.runtime;
    const networks = new Networks({
      folder: `${host.dataDir}/networks`,
      egress,
      canSetRules: capabilities.network_rules ?? false,
      names: new Names([]),
      forbidden: Forbidden.ofThisMachine(),
    });
    return { host, networks };
  };
  afterAll(() => Promise.all(hosts.map((host) => host.close())));

  it("let in to a published port only whom they name", async () => {
    const { host } = started;
    const { plan } = host.lab;
    const { host: caller } = host.daemon;
    const only = (address: string): NetworkPolicy => ({ inbound_cidrs: [`${address}/32`] });
    const sandbox = caller.spec({
      image: IMAGE,
      raw_ports: [PORT],
      entrypoint: ["python3", "-c", SERVE],
      network: only(plan.allowed),
    });
    const { json } = await caller.put(sandbox);
    const box = `/v1/sandboxes/${sandbox.sandbox_id}`;
    const port = (json["published_ports"] as Record<string, number>)[PORT]!;
    const from = (address: string) => host.lab.dial({ from: address, host: plan.host, port });
    const isOpen = async () => (await caller.call("GET", `${box}/ports/${PORT}`)).json["open"];
    await until(async () => (await isOpen()) === true);
    expect(await from(plan.allowed)).toContain("inside");
    expect(await from(plan.attacker)).toMatch(/ECONN(REFUSED|RESET)/);
    // By whoever is on this machine, through what Docker runs for that.
    expect(await host.here(port)).not.toContain("inside");
    expect(await host.update(box, 1, only(plan.attacker))).toBe(204);
    expect(await from(plan.allowed)).toMatch(/ECONN(REFUSED|RESET)/);
    expect(await from(plan.attacker)).toContain("inside");
    expect(await isOpen()).toBe(true);
    expect(await host.update(box, 2, {})).toBe(204);
    expect(await from(plan.allowed)).toContain("inside");
    expect(await host.here(port)).toContain("inside");
    await host.remove(box);
  });

  it("hold in one that was started ahead, before its entrypoint runs", async () => {
    const { attacker } = started.host.lab.plan;
    const { host, networks } = await open();
    const first = async (network: NetworkPolicy | undefined) => {
      const warm = await host.runtime.warm!.start(warmSpec());
      const entrypoint = ["sh", "-c", 'python3 -c "$0" "$1" >/tmp/first; sleep 600', CONNECT, attacker];
      const sandbox = spec({ entrypoint, ...(network && { network }) });
      const container = await warm.adopt(sandbox, networks.preparing(sandbox));
      host.started.push(container);
      const said = async () => (await sh(container, "cat /tmp/first")).stdout;
      await until(async () => (await said()).endsWith("\n"));
      networks.release(container);
      return said();
    };
    expect(await Promise.all([first(CUT_OFF), first(undefined)])).toEqual([
      "ConnectionRefusedError\n",
      `lab ${attacker}:9999\n`,
    ]);
  });

  it("hold in the one that is started where one started ahead could not become the sandbox's", async () => {
    const { attacker } = started.host.lab.plan;
    const { host, networks } = await open();
    const warm = await host.runtime.warm!.start(warmSpec());
    const entrypoint = ["sh", "-c", 'python3 -c "$0" "$1" >/tmp/first; sleep 600', CONNECT, attacker];
    const sandbox = spec({ entrypoint, network: CUT_OFF });
    const prepare = networks.preparing(sandbox)!;
    const failing = warm.adopt(sandbox, async (container) => {
      await prepare(container);
      throw new Error("it breaks");
    });
    await expect(failing).rejects.toThrow("it breaks");
    const container = await host.runtime.start(sandbox, [], prepare);
    host.started.push(container);
    const said = async () => (await sh(container, "cat /tmp/first")).stdout;
    await until(async () => (await said()).endsWith("\n"));
    expect(await said()).toBe("ConnectionRefusedError\n");
    networks.release(container);
  });

  it("are those of one that is cut off where those that were written down cannot be read", async () => {
    const { attacker, allowed } = started.host.lab.plan;
    const { host, networks } = await open();
    const container = await host.runtime.start(spec());
    host.started.push(container);
    const reach = async (address: string) => (await sh(container, `python3 -c '${CONNECT}' ${address}`)).stdout.trim();
    expect(await networks.recover([container])).toEqual([]);
    expect(await reach(attacker)).toBe(`lab ${attacker}:9999`);
    mkdirSync(`${host.dataDir}/networks`, { recursive: true });
    writeFileSync(
      `${host.dataDir}/networks/${container.sandboxId}.${container.generation}`,
      '{"revision":3,"policy":{"ou',
    );
    expect(await networks.recover([container])).toEqual([]);
    expect(await reach(attacker)).toBe("ConnectionRefusedError");
    await networks.update(container, 4, { outbound: { cidrs: [`${allowed}/32`], domains: [] } });
    expect(await reach(allowed)).toBe(`lab ${allowed}:9999`);
    expect(await reach(attacker)).toBe("ConnectionRefusedError");
    networks.release(container);
  });

  it("are refused where the engine itself would start the first process", async () => {
    const { host, networks } = await open({ useLauncher: false });
    expect(host.runtime.capabilities).not.toHaveProperty("network_rules");
    const sandbox = spec({ network: CUT_OFF });
    expect(() => networks.preparing(sandbox)).toThrow("This host cannot set rules for a network.");
    await expect(host.runtime.start(sandbox, [], async () => {})).rejects.toThrow("cannot be prepared");
    expect(host.left()).toBe("");
  });
});
