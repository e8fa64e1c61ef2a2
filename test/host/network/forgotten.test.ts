import { execFileSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import { DaemonProcess } from "../daemon-process.ts";
import { IMAGE, noEngine } from "../docker-host.ts";
import { until } from "../signed-host.ts";
import { Insisting } from "./attackers.ts";
import { Lab, noLab } from "./lab.ts";

/** Forgets every connection that the kernel tracks in a network: what its clocks do to one that is silent for long enough. */
const FORGET = `
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
s.bind((0, 0))
s.send(struct.pack("=IHHIIBBH", 20, 0x102, 5, 1, 0, 0, 0, 0))
assert s.recv(4096)[16:20] == bytes(4)
`;

describe.skipIf((noLab ?? noEngine) !== undefined)("connections that the kernel has forgotten", () => {
  let lab: Lab;
  let daemon: DaemonProcess;
  let box: string;
  beforeAll(async () => {
    lab = await Lab.start();
    daemon = await DaemonProcess.start("docker", { env: { ...process.env, SANDBAR_DNS: lab.plan.resolver } });
  });
  afterAll(async () => {
    if (box) await daemon.host.call("DELETE", `${box}?generation=1`);
    await Promise.all([daemon?.remove(), lab?.close()]);
  });

  it("are not begun by the answers that still come", async () => {
    const { attacker } = lab.plan;
    const open: NetworkPolicy = { outbound: { cidrs: [`${attacker}/32`], domains: [] } };
    box = await daemon.host.sandbox({ image: IMAGE, network: open });
    const name = `sandbar-${box.split("/").at(-1)}-1`;
    const pid = execFileSync("docker", ["inspect", "-f", "{{.State.Pid}}", name]).toString().trim();
    const forget = () => execFileSync("nsenter", ["--target", pid, "--net", "python3", "-c", FORGET]);
    const stream = { op: "udp_stream", host: attacker, port: 9999, send: "stream" };
    const insisting = await Insisting.start(daemon.host, box, [stream]);
    const came = async () => (await lab.packets())[attacker]!.all;
    await until(async () => (await came()) > 10);
    const policy: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };
    const answer = await daemon.host.send("PUT", `${box}/network`, { generation: 1, revision: 1, policy });
    expect(answer.status).toBe(204);
    forget();
    await sleep(100);
    const before = await came();
    await sleep(400);
    expect((await came()) - before).toBe(0);
    await insisting.end();
  });
});
