import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import { DaemonProcess } from "../daemon-process.ts";
import { until } from "../signed-host.ts";
import { insistOn, Insisting } from "./attackers.ts";
import { ask, request, type Attempt, type RuntimeName } from "./attacks.ts";
import { Lab } from "./lab.ts";

const NOTHING: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };
const QUIET_MS = 150;
const TURNS = 5;

/** Rules that change, and a daemon that dies, under a sandbox that never stops trying. */
export function updateSuite(runtime: RuntimeName, image: string): void {
  describe(`rules that change, on the ${runtime} runtime`, () => {
    let lab: Lab;
    let daemon: DaemonProcess;
    const boxes: string[] = [];
    let revision = 0;
    beforeAll(async () => {
      lab = await Lab.start();
      daemon = await DaemonProcess.start(runtime, { env: { ...process.env, SANDBAR_DNS: lab.plan.resolver } });
    });
    afterEach(async () => {
      await Promise.all(boxes.splice(0).map((box) => daemon.host.call("DELETE", `${box}?generation=1`)));
    });
    afterAll(async () => {
      await Promise.all([daemon?.remove(), lab?.close()]);
    });

    const start = async (network: NetworkPolicy) => {
      const box = await daemon.host.sandbox({ image, network });
      boxes.push(box);
      return box;
    };
    const set = async (box: string, policy: NetworkPolicy) => {
      const answer = await daemon.host.send("PUT", `${box}/network`, { generation: 1, revision: ++revision, policy });
      if (answer.status !== 204) throw new Error(answer.body.toString());
    };
    /** Packets that begin a connection or carry bytes. */
    const moved = async (address: string) => (await lab.packets())[address]!.moving;
    const flows = async (address: string) => {
      const before = await moved(address);
      await until(async () => (await moved(address)) > before + 10);
    };
    const staysStill = async (address: string, forMs = QUIET_MS) => {
      const before = await moved(address);
      await sleep(forMs);
      expect((await moved(address)) - before).toBe(0);
    };

    const upgrade = request("allowed.test", "/", "connection: upgrade\r\nupgrade: echo\r\n");
    const askByName = () => ask(lab.plan.allowed, 80, request("allowed.test", "/", "connection: close\r\n"));
    const byName = (): Attempt[] => [
      { op: "tls", host: lab.plan.allowed, port: 443, name: "allowed.test" },
      askByName(),
      { op: "hold", host: lab.plan.allowed, port: 80, send: upgrade },
    ];
    const byAddress = (): Attempt[] => [
      ask(lab.plan.allowed, 22, "here"),
      { op: "hold", host: lab.plan.allowed, port: 22, send: "here" },
      { op: "udp", host: lab.plan.allowed, port: 443, send: "here" },
    ];
    const evil = (): Attempt[] => [
      ask(lab.plan.attacker, 22, "here"),
      ask(lab.plan.attacker, 80, request("allowed.test")),
      { op: "dns", server: lab.plan.attacker, name: "evil.test" },
      { op: "udp", host: lab.plan.attacker, port: 443, send: "here" },
      { op: "own_dns", name: "tunnel.evil.test" },
    ];
    const sawEvil = async () => {
      const all = (await lab.packets())[lab.plan.attacker]!.all;
      const asked = (await lab.hits()).filter(({ kind, text }) => kind === "dns" && text.includes("evil"));
      return [all, asked.length];
    };

    it.each([
      ["addresses", byAddress, () => ({ outbound: { cidrs: [`${lab.plan.allowed}/32`], domains: [] } }), () => NOTHING],
      ["names", byName, () => ({ outbound: { cidrs: [], domains: ["*.allowed.test"] } }), () => NOTHING],
      [
        "addresses that become names",
        byAddress,
        () => ({ outbound: { cidrs: [`${lab.plan.allowed}/32`], domains: [] } }),
        () => ({ outbound: { cidrs: [], domains: ["other.test"] } }),
      ],
    ])("cut at once what they forbid: %s", { timeout: 60_000 }, async (_, attempts, allowing, forbidding) => {
      const [open, shut]: NetworkPolicy[] = [allowing(), forbidding()];
      const box = await start(open!);
      const insisting = await Insisting.start(daemon.host, box, [...attempts(), ...evil()]);
      const evilBefore = await sawEvil();
      for (let turn = 0; turn < TURNS; turn++) {
        await flows(lab.plan.allowed);
        await set(box, shut!);
        await staysStill(lab.plan.allowed);
        await set(box, open!);
      }
      await flows(lab.plan.allowed);
      await set(box, shut!);
      const heard = await insisting.end();
      const held = heard[attempts().findIndex(({ op }) => op === "hold")]!.trim().split(" ").map(Number);
      expect(held.length).toBeGreaterThanOrEqual(TURNS);
      expect(held.filter((ms) => !(ms < 1_000))).toEqual([]);
      expect(await sawEvil()).toEqual(evilBefore);
    });

    it("hold before anything runs in there", { timeout: 60_000 }, async () => {
      const hasTold = async () => (await lab.hits()).some(({ text }) => text.includes("told"));
      const entrypoint = insistOn([
        ask(lab.plan.attacker, 22, "told"),
        { op: "udp", host: lab.plan.attacker, port: 443, send: "told" },
        { op: "dns", server: lab.plan.attacker, name: "told.evil.test" },
        askByName(),
      ]);
      const networks: NetworkPolicy[] = [NOTHING, { outbound: { cidrs: [], domains: ["allowed.test"] } }];
      const before = await sawEvil();
      boxes.push(
        ...(await Promise.all(networks.map((network) => daemon.host.sandbox({ image, network, entrypoint })))),
      );
      await flows(lab.plan.allowed);
      expect(await sawEvil()).toEqual(before);
      expect(await hasTold()).toBe(false);
      boxes.push(await daemon.host.sandbox({ image, entrypoint }));
      await until(hasTold);
    });

    it("hold while nobody is there to see to them, and are those that were set last", { timeout: 60_000 }, async () => {
      const names: NetworkPolicy = { outbound: { cidrs: [], domains: ["*.allowed.test"] } };
      const [box, closed] = [await start(names), await start({})];
      await set(closed, NOTHING);
      const evilBefore = await sawEvil();
      const insisting = [
        await Insisting.start(daemon.host, box, [...byName(), ...evil()]),
        await Insisting.start(daemon.host, closed, [...byAddress(), ...evil()]),
      ];
      await flows(lab.plan.allowed);
      await daemon.kill();
      try {
        await staysStill(lab.plan.allowed, 500);
      } finally {
        await daemon.start();
      }
      await flows(lab.plan.allowed);
      // A change that nobody has answered for holds or does not: the next one does.
      const lost = set(box, NOTHING).catch(() => {});
      await daemon.kill();
      await lost;
      await daemon.start();
      await set(box, NOTHING);
      await staysStill(lab.plan.allowed, 300);
      await Promise.all(insisting.map((one) => one.end()));
      expect(await sawEvil()).toEqual(evilBefore);
    });
  });
}
