import { once } from "node:events";
import { readdirSync } from "node:fs";
import { connect } from "node:net";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { StartSpec } from "../../../src/contract/host-protocol.ts";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import { DaemonProcess } from "../daemon-process.ts";
import { text } from "../signed-host.ts";
import { Lab } from "./lab.ts";

const PORT = 9999;
const WAIT_MS = 20_000;
const OPEN: NetworkPolicy = {};
const CUT_OFF: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };

/** Connects to an address, and says who answers or what is wrong. */
export const CONNECT = `
import socket, sys
try: print(socket.create_connection((sys.argv[1], ${PORT}), 5).recv(99).decode().strip())
except OSError as error: print(type(error).__name__)
`;

const heardOf = (address: string) => `lab ${address}:${PORT}`;
const only = (...addresses: string[]): NetworkPolicy => ({
  outbound: { cidrs: addresses.map((address) => `${address}/32`), domains: [] },
});

/** A daemon of a runtime beside a lab, and what its tests do with it. */
export class NetworkHost {
  readonly lab: Lab;
  readonly daemon: DaemonProcess;
  readonly #image: string;
  readonly #boxes: string[] = [];

  private constructor(lab: Lab, daemon: DaemonProcess, image: string) {
    this.lab = lab;
    this.daemon = daemon;
    this.#image = image;
  }

  static async start(runtime: "docker" | "embedded", image: string): Promise<NetworkHost> {
    const lab = await Lab.start();
    const env = { ...process.env, SANDBAR_DNS: lab.plan.resolver };
    return new NetworkHost(lab, await DaemonProcess.start(runtime, { env }), image);
  }

  async sandbox(network?: NetworkPolicy, more: Partial<StartSpec> = {}): Promise<string> {
    const box = await this.daemon.host.sandbox({ image: this.#image, ...(network && { network }), ...more });
    this.#boxes.push(box);
    return box;
  }

  async python(box: string, script: string, ...args: string[]): Promise<string> {
    const { output } = await this.daemon.host.exec(box, ["python3", "-c", script, ...args], {}, WAIT_MS);
    return text(output!.stdout).trim() + text(output!.stderr);
  }

  reach(box: string, address: string): Promise<string> {
    return this.python(box, CONNECT, address);
  }

  /** What a port of this machine says to who is on it. */
  async here(port: number): Promise<string> {
    const socket = connect(port, "127.0.0.1");
    try {
      return String(await Promise.race([once(socket, "data"), once(socket, "end")]));
    } catch (error) {
      return String(error);
    } finally {
      socket.destroy();
    }
  }

  async update(box: string, revision: number, policy: NetworkPolicy, generation = 1): Promise<number> {
    return (await this.daemon.host.send("PUT", `${box}/network`, { generation, revision, policy })).status;
  }

  async remove(box: string): Promise<void> {
    await this.daemon.host.call("DELETE", box);
  }

  async close(): Promise<void> {
    await Promise.all(this.#boxes.map((box) => this.remove(box)));
    await Promise.all([this.daemon.remove(), this.lab.close()]);
  }
}

/** How policies come and go in the containers of a runtime. */
export function networksSuite(runtime: "docker" | "embedded", image: string): { readonly host: NetworkHost } {
  const started = {} as { host: NetworkHost };
  beforeAll(async () => {
    started.host = await NetworkHost.start(runtime, image);
  });
  afterAll(() => started.host?.close());
  const refusal = /^Connection(Refused|Reset)Error$/;

  it("hold before the first process runs, and are changed while it does", async () => {
    const { host } = started;
    const { allowed, attacker } = host.lab.plan;
    const entrypoint = ["sh", "-c", 'python3 -c "$0" "$1" >/tmp/first; sleep 600', CONNECT, attacker];
    const box = await host.sandbox(CUT_OFF, { entrypoint });
    expect(await host.reach(box, allowed)).toBe("ConnectionRefusedError");
    expect(await host.update(box, 1, only(allowed))).toBe(204);
    expect(await host.reach(box, allowed)).toBe(heardOf(allowed));
    expect(await host.reach(box, attacker)).toMatch(refusal);
    expect(await host.update(box, 2, OPEN)).toBe(204);
    expect(await host.reach(box, attacker)).toBe(heardOf(attacker));
    expect(await host.python(box, 'print(open("/tmp/first").read())')).toBe("ConnectionRefusedError");
  });

  it("hold as they are under the highest revision, in whatever order they come", async () => {
    const { host } = started;
    const { allowed, attacker } = host.lab.plan;
    const box = await host.sandbox();
    expect(await host.update(box, 7, only(allowed))).toBe(204);
    expect(await host.update(box, 6, OPEN)).toBe(204);
    expect(await host.reach(box, attacker)).toMatch(refusal);
    const revisions = Array.from({ length: 12 }, (_, index) => 8 + ((index * 5) % 12));
    const policyOf = (revision: number) => (revision === 19 ? CUT_OFF : only(revision % 2 ? allowed : attacker));
    const answers = await Promise.all(revisions.map((revision) => host.update(box, revision, policyOf(revision))));
    expect(new Set(answers)).toEqual(new Set([204]));
    expect(await host.reach(box, allowed)).toBe("ConnectionRefusedError");
    expect(await host.reach(box, attacker)).toBe("ConnectionRefusedError");
  });

  it("are not for what is not there", async () => {
    const { host } = started;
    const box = await host.sandbox();
    expect(await host.update(box, 1, CUT_OFF, 2)).toBe(409);
    await host.remove(box);
    expect(await host.update(box, 1, CUT_OFF)).toBe(409);
    expect(
      (await host.daemon.host.send("PUT", `${box}/network`, { generation: 1, revision: 1, policy: { outbound: 1 } }))
        .status,
    ).toBe(400);
    expect(readdirSync(`${host.daemon.dataDir}/networks`).filter((name) => box.includes(name.split(".")[0]!))).toEqual(
      [],
    );
  });
  return started;
}
