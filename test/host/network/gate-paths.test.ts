import { once } from "node:events";
import type { Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Interceptor } from "../../../src/host/network/interceptor.ts";
import { closed, GatedBox, heard, outbound } from "./gated-box.ts";
import { Lab, noLab } from "./lab.ts";
import type { Plan } from "./lab-plan.ts";

const NOWHERE = "192.0.2.77";
const MAX_CONNECTIONS = 1_024;

describe.skipIf(noLab)("ways through the gate", () => {
  let lab: Lab;
  let plan: Plan;
  let plain: GatedBox;
  let intercepted: GatedBox;
  /** What the interceptor was given. */
  let taken: { socket: Socket; name: string }[] = [];
  const interceptor: Interceptor = {
    takes: (name) => name === "allowed.test",
    accept: (socket, name) => void taken.push({ socket, name }),
    close: () => {},
  };

  beforeAll(async () => {
    lab = await Lab.start();
    plan = lab.plan;
    plain = await GatedBox.open({ policy: {}, resolver: plan.resolver });
    intercepted = await GatedBox.open({ policy: {}, resolver: plan.resolver, interceptor });
  });
  afterAll(async () => {
    plain?.close();
    intercepted?.close();
    await lab?.close();
  });
  beforeEach(() => {
    taken = [];
  });

  const shake = async (box: GatedBox, address: string, servername: string, port = 443): Promise<Socket> => {
    const options = { servername, ca: lab.ca, checkServerIdentity: () => undefined };
    const socket = connectTls({ socket: await box.dial(address, port), ...options });
    await once(socket, "secureConnect");
    return socket.on("error", () => {});
  };

  test("without rules of its own a sandbox reaches every address as it is, whatever it says there", async () => {
    for (const address of [plan.attacker, plan.attacker6]) {
      const socket = await plain.dial(address, 25);
      expect(await heard(socket, "\n")).toBe(`lab ${address}:25\n`);
      socket.destroy();
    }
    (await shake(plain, plan.other, "whatever.test")).destroy();
  });

  test("what something is to be added to is handed over whole, and nothing else is", async () => {
    const given = connectTls({ socket: await intercepted.dial(NOWHERE, 443), servername: "ALLOWED.test" });
    given.on("error", () => {});
    await expect.poll(() => taken.map(({ name }) => name)).toEqual(["allowed.test"]);
    const { socket } = taken[0]!;
    expect(socket.isPaused()).toBe(true);
    expect((await heard(socket, "LLOWED")).charCodeAt(0)).toBe(22);
    given.destroy();
    await closed(socket.on("end", () => socket.destroy()));
    // Another domain, and the same on another port.
    (await shake(intercepted, plan.allowed, "other.test")).destroy();
    const elsewhere = await intercepted.dial(plan.allowed, 8080);
    expect(await heard(elsewhere, "\n")).toContain("lab");
    elsewhere.destroy();
    // What is no TLS goes where it was to go, also where the other side speaks first.
    const strange = await intercepted.dial(plan.allowed, 443);
    await lab.forget();
    strange.write("GET / HTTP/1.1\r\n\r\n");
    await expect.poll(() => lab.hits()).toMatchObject([{ kind: "tcp", address: plan.allowed, port: 443 }]);
    strange.destroy();
    expect(taken.length).toBe(1);
  });

  test("what is handed over is cut by other rules, and not taken where they forbid it", async () => {
    intercepted.gate.setPolicy(outbound([], ["allowed.test"]));
    const given = connectTls({ socket: await intercepted.dial(NOWHERE, 443), servername: "allowed.test" });
    given.on("error", () => {});
    await expect.poll(() => taken.length).toBe(1);
    const cut = closed(given);
    intercepted.gate.setPolicy(outbound([], ["other.test"]));
    await cut;
    expect(taken[0]!.socket.destroyed).toBe(true);
    await expect(shake(intercepted, plan.allowed, "allowed.test")).rejects.toThrow();
    (await shake(intercepted, NOWHERE, "other.test")).destroy();
    expect(taken.length).toBe(1);
    intercepted.gate.setPolicy({});
  });

  test("a sandbox has so many connections at a time and no more, and gets new ones as they end", async () => {
    const all: Socket[] = [];
    const said: string[] = [];
    while (all.length < MAX_CONNECTIONS + 50) {
      const some = await Promise.all(Array.from({ length: 100 }, () => plain.dial(plan.allowed, 1234)));
      said.push(...(await Promise.all(some.map((socket) => heard(socket, "\n")))));
      all.push(...some);
    }
    expect(said.filter((text) => text === "reset").length).toBe(all.length - MAX_CONNECTIONS);
    expect(await heard(await plain.dial(plan.allowed, 1234))).toBe("reset");
    for (const socket of all) socket.destroy();
    await expect
      .poll(
        async () => {
          const socket = await plain.dial(plan.allowed, 1234);
          const text = await heard(socket, "\n");
          socket.destroy();
          return text;
        },
        { timeout: 10_000 },
      )
      .toContain("lab");
  });

  test("what a sandbox sends waits in the sandbox while nobody takes it", async () => {
    const socket = await plain.dial(plan.allowed, 9999);
    await heard(socket, "\n");
    // The server says everything again, which is not read: soon it reads no more either.
    const chunk = Buffer.alloc(1_048_576);
    let sent = 0;
    const blocked = async () => {
      while (sent < 100) {
        sent++;
        if (!socket.write(chunk)) {
          const drained = once(socket, "drain").then(() => true);
          if (!(await Promise.race([drained, new Promise<false>((late) => setTimeout(late, 500, false))]))) return true;
        }
      }
      return false;
    };
    expect(await blocked()).toBe(true);
    let got = 0;
    socket.end();
    for await (const part of socket) got += (part as Buffer).length;
    expect(got).toBe(sent * chunk.length);
  });

  test("a gate that closes ends everything", async () => {
    const box = await GatedBox.open({ policy: {}, resolver: plan.resolver });
    const socket = await box.dial(plan.allowed, 1234);
    await heard(socket, "\n");
    const end = closed(socket);
    box.close();
    await end;
  });
});
