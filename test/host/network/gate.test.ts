import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import type { Socket } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { closed, GatedBox, heard, outbound } from "./gated-box.ts";
import { Lab, noLab } from "./lab.ts";
import type { Plan } from "./lab-plan.ts";

/** An address that nobody has: only the name counts where a domain is what is allowed. */
const NOWHERE = "192.0.2.77";

describe.skipIf(noLab)("the gate", () => {
  let lab: Lab;
  let plan: Plan;
  let box: GatedBox;
  beforeAll(async () => {
    lab = await Lab.start();
    plan = lab.plan;
    box = await GatedBox.open({ policy: outbound([]), resolver: plan.resolver });
  });
  afterAll(async () => {
    box?.close();
    await lab?.close();
  });
  beforeEach(() => lab.forget());

  const hello = async (address: string, servername: string): Promise<TLSSocket> => {
    const options = { servername, ca: lab.ca, checkServerIdentity: () => undefined };
    const socket = connectTls({ socket: await box.dial(address, 443), ...options });
    await once(socket, "secureConnect");
    return socket.on("error", () => {});
  };
  const get = (host: string, path = "/") => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
  const reached = async () => (await lab.hits()).filter(({ kind }) => kind !== "dns");

  test("an address that is allowed is reached as it is, in both families", async () => {
    box.gate.setPolicy(outbound([`${plan.allowed}/32`, `${plan.allowed6}/128`]));
    for (const address of [plan.allowed, plan.allowed6]) {
      const socket = await box.dial(address, 5432);
      expect(await heard(socket, "\n")).toBe(`lab ${address}:5432\n`);
      socket.write("hello");
      expect(await heard(socket, "hello")).toBe("hello");
      // Its half ends; what is still to come from the other side comes.
      socket.end("bye");
      expect(await heard(socket)).toBe("bye");
    }
    for (const address of [plan.other, plan.attacker6]) {
      expect(await heard(await box.dial(address, 5432))).toBe("reset");
    }
    expect((await reached()).filter(({ address }) => address !== plan.allowed && address !== plan.allowed6)).toEqual(
      [],
    );
  });

  test("what the destination refuses is a reset, and so is what breaks on the way", async () => {
    box.gate.setPolicy(outbound([`${plan.allowed}/32`]));
    expect(await heard(await box.dial(plan.allowed, 4242))).toBe("reset");
  });

  test("what no sandbox may reach is not reached, whatever the rules", async () => {
    const own = createServer((socket) => socket.end("the machine's own")).listen(0, "0.0.0.0");
    await once(own, "listening");
    const { port } = own.address() as AddressInfo;
    for (const policy of [{}, outbound(["0.0.0.0/0", "::/0"], ["*.test"])]) {
      box.gate.setPolicy(policy);
      for (const address of ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", plan.host, plan.host6]) {
        expect(await heard(await box.dial(address, 80)), address).toBe("reset");
        expect(await heard(await box.dial(address, port)), address).toBe("reset");
      }
    }
    own.close();
    expect(await reached()).toEqual([]);
  });

  test("a domain is reached by TLS under its name, and the address that is claimed does not count", async () => {
    box.gate.setPolicy(outbound([], ["allowed.test", "*.sub.allowed.test", "v6.test"]));
    for (const name of ["allowed.test", "sub.allowed.test"]) {
      const socket = await hello(plan.attacker, name);
      socket.write(get(name));
      expect(await heard(socket, "}")).toContain(`"lab":"${plan.allowed}:443"`);
      socket.destroy();
    }
    const socket = await hello(NOWHERE, "v6.test");
    socket.write(get("v6.test"));
    expect(await heard(socket, "}")).toContain(`"lab":"${plan.allowed6}:443"`);
    socket.destroy();
    for (const name of ["evil.test", "other.allowed.test", "allowed.test.evil.test"]) {
      await expect(hello(plan.allowed, name), name).rejects.toThrow(/ECONNRESET|before secure/);
    }
    expect((await reached()).filter(({ address }) => address === plan.attacker)).toEqual([]);
  });

  test("a domain that leads to what no sandbox may reach is not reached", async () => {
    box.gate.setPolicy(outbound([], ["*.test"]));
    for (const name of ["meta", "meta6", "mapped", "nat64", "alias", "inside", "loop", "zero"]) {
      await expect(hello(NOWHERE, `${name}.test`), name).rejects.toThrow(/ECONNRESET|before secure/);
      const socket = await box.dial(NOWHERE, 80);
      socket.write(get(`${name}.test`));
      expect(await heard(socket, "\r\n"), name).toContain(" 403 ");
      socket.destroy();
    }
    expect(await reached()).toEqual([]);
    const socket = await hello(NOWHERE, "mixed.test");
    socket.destroy();
    expect(await reached()).toContainEqual({ kind: "tls", address: "", port: 443, text: "mixed.test" });
  });

  test("what is neither TLS nor HTTP is not passed on for a domain", async () => {
    box.gate.setPolicy(outbound([], ["allowed.test"]));
    for (const words of [
      "EHLO allowed.test\r\n",
      "SSH-2.0-x\r\n",
      "PRI * HTTP/2.0\r\n\r\n",
      "\x16\x03\x01\x00\x05hello",
    ]) {
      const socket = await box.dial(plan.allowed, 8080);
      socket.write(words, "latin1");
      expect(await heard(socket), words).toMatch(/^(HTTP\/1.1 400 [^]*)?(reset)?$/);
    }
    expect(await reached()).toEqual([]);
  });

  test("other rules cut what they forbid, at once, and leave the rest", async () => {
    box.gate.setPolicy(outbound([`${plan.allowed}/32`, `${plan.other}/32`], ["allowed.test", "other.test"]));
    const open: Record<string, Socket> = {
      kept: await box.dial(plan.allowed, 22),
      cut: await box.dial(plan.other, 22),
      keptTls: await hello(NOWHERE, "allowed.test"),
      cutTls: await hello(NOWHERE, "other.test"),
      keptHttp: await box.dial(NOWHERE, 80),
      cutHttp: await box.dial(NOWHERE, 80),
    };
    for (const name of ["kept", "cut"]) await heard(open[name]!, "\n");
    for (const [name, host] of [
      ["keptHttp", "allowed.test"],
      ["cutHttp", "other.test"],
    ] as const) {
      open[name]!.write(get(host));
      expect(await heard(open[name]!, "}")).toContain(" 200 ");
    }
    const cut = ["cut", "cutTls", "cutHttp"].map((name) => closed(open[name]!));
    box.gate.setPolicy(outbound([`${plan.allowed}/32`], ["allowed.test"]));
    await Promise.all(cut);
    open["kept"]!.write("still");
    expect(await heard(open["kept"]!, "still")).toBe("still");
    for (const name of ["keptTls", "keptHttp"]) {
      open[name]!.write(get("allowed.test"));
      expect(await heard(open[name]!, "}"), name).toContain(" 200 ");
    }
    for (const socket of Object.values(open)) socket.destroy();
  });

  test("a connection that is judged while the rules change ends by the later ones", async () => {
    const allowed = outbound([`${plan.allowed}/32`], ["allowed.test"]);
    for (const delay of [0, 0, 1, 1, 2, 3, 5]) {
      box.gate.setPolicy(allowed);
      const direct = await box.dial(plan.allowed, 22);
      const named = await box.dial(NOWHERE, 80);
      named.write(get("allowed.test"));
      await new Promise((wake) => setTimeout(wake, delay));
      const ends = [direct, named].map((socket) => closed(socket));
      box.gate.setPolicy(outbound([]));
      await Promise.all(ends);
    }
  });
});
