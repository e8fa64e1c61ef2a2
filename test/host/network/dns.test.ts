import { decode, encode, RECURSION_DESIRED, streamDecode, streamEncode } from "dns-packet";
import type { DecodedPacket, OptAnswer, Packet, RecordType } from "dns-packet";
import { createSocket } from "node:dgram";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DnsAnswers } from "../../../src/host/network/dns-answers.ts";
import { Forbidden } from "../../../src/host/network/forbidden.ts";
import { Judge } from "../../../src/host/network/judge.ts";
import { bindUdp } from "../../../src/host/network/namespace.ts";
import { GatedBox, heard, outbound } from "./gated-box.ts";
import { Lab, noLab } from "./lab.ts";
import type { Plan } from "./lab-plan.ts";

/** Whoever a sandbox asks, it is the gate that answers. */
const ANYBODY = "203.0.113.250";

const query = (name: string, type: RecordType = "A", more: Partial<Packet> = {}) =>
  encode({ type: "query", id: 7, flags: RECURSION_DESIRED, questions: [{ type, name }], ...more });

describe.skipIf(noLab)("names inside", () => {
  let lab: Lab;
  let plan: Plan;
  let box: GatedBox;
  beforeAll(async () => {
    lab = await Lab.start();
    plan = lab.plan;
    box = await GatedBox.open({ policy: outbound([], ["*.allowed.test", "mixed.test"]), resolver: plan.resolver });
  });
  afterAll(async () => {
    box?.close();
    await lab?.close();
  });
  beforeEach(async () => {
    box.gate.setPolicy(outbound([], ["*.allowed.test", "mixed.test", "big.test", "many.test", "v6.test"]));
    await lab.forget();
  });

  /** The answers to so many of these questions as are waited for. */
  const askAll = async (questions: Buffer[], count = questions.length): Promise<Buffer[]> => {
    const socket = createSocket("udp4");
    const answers: Buffer[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    socket.on("message", (answer) => answers.push(answer) >= count && resolve());
    socket.bind({ fd: bindUdp(box.namespace, "0.0.0.0") } as never);
    for (const question of questions) socket.send(question, 53, ANYBODY);
    const timer = setTimeout(resolve, 10_000);
    await promise;
    clearTimeout(timer);
    socket.close();
    return answers;
  };
  const ask = async (...question: Parameters<typeof query>): Promise<DecodedPacket> => {
    const [answer] = await askAll([query(...question)]);
    return decode(answer!);
  };
  const addresses = ({ answers = [] }: Packet) => answers.map((answer) => "data" in answer && answer.data);
  const rcode = (packet: DecodedPacket) => (packet as unknown as { rcode: string }).rcode;
  const asked = async () => (await lab.hits()).filter(({ kind }) => kind === "dns").map(({ text }) => text);

  test("an allowed name has its addresses, and those for a short time", async () => {
    const answer = await ask("sub.ALLOWED.test");
    expect(answer).toMatchObject({ id: 7, type: "response", flag_ra: true, flag_rd: true, flag_tc: false });
    expect(answer.questions).toMatchObject([{ type: "A", name: "sub.ALLOWED.test" }]);
    expect(addresses(answer)).toEqual([plan.allowed]);
    expect((answer.answers![0] as { ttl: number }).ttl).toBeLessThanOrEqual(60);
    expect(addresses(await ask("v6.test", "AAAA"))).toEqual([plan.allowed6]);
  });

  test("an allowed name has nothing else, and nobody is asked for it", async () => {
    for (const type of ["TXT", "MX", "SRV", "NS", "CNAME", "CAA"] as const) {
      const answer = await ask("allowed.test", type);
      expect([rcode(answer), answer.answers], type).toEqual(["NOERROR", []]);
    }
    expect(await asked()).toEqual([]);
    // A family that it has no address of; and a name that is allowed, but nobody's.
    expect(rcode(await ask("allowed.test", "AAAA"))).toBe("NOERROR");
    expect(rcode(await ask("nobody.allowed.test"))).toBe("NXDOMAIN");
  });

  test("whatever else is asked is refused, and nobody hears of it", async () => {
    const secret = "c2VjcmV0";
    for (const name of [
      `${secret}.evil.test`,
      "evil.test",
      "allowed.test.evil.test",
      "test",
      "localhost",
      "1.2.0.192.in-addr.arpa",
    ]) {
      for (const type of ["A", "AAAA", "TXT", "PTR"] as const)
        expect(rcode(await ask(name, type)), name).toBe("REFUSED");
    }
    expect(
      rcode(await ask("allowed.test", "A", { questions: [{ type: "A", class: "CH", name: "allowed.test" }] })),
    ).toBe("REFUSED");
    expect(rcode(await ask("allowed.test", "A", { flags: RECURSION_DESIRED | (2 << 11) }))).toBe("NOTIMP");
    expect(await asked()).toEqual([]);
  });

  test("addresses that no sandbox may reach are left out", async () => {
    expect(addresses(await ask("mixed.test"))).toEqual([plan.allowed]);
    box.gate.setPolicy(outbound([], ["*.test"]));
    for (const name of ["meta.test", "alias.test", "inside.test", "loop.test", "zero.test"]) {
      const answer = await ask(name);
      expect([rcode(answer), answer.answers], name).toEqual(["NOERROR", []]);
    }
    for (const name of ["meta6.test", "nat64.test", "mapped.test"])
      expect(addresses(await ask(name, "AAAA")), name).toEqual([]);
  });

  test("names are a destination where only addresses are allowed: the name servers must be among them", async () => {
    box.gate.setPolicy(outbound([`${plan.allowed}/32`]));
    expect(rcode(await ask("allowed.test"))).toBe("REFUSED");
    expect(await asked()).toEqual([]);
    box.gate.setPolicy(outbound([`${plan.resolver}/32`]));
    expect(addresses(await ask("other.test"))).toEqual([plan.other]);
    box.gate.setPolicy({});
    expect(addresses(await ask("evil.test"))).toEqual([plan.attacker]);
    box.gate.setPolicy(outbound([]));
    expect(rcode(await ask("allowed.test"))).toBe("REFUSED");
  });

  test("an answer too large for a datagram is asked for by TCP", async () => {
    const many = Array.from({ length: 40 }, (_, index) => `198.18.0.${index + 20}`);
    await lab.name("many.test", many);
    const [short, extended] = [await ask("many.test"), await ask("many.test", "A", { additionals: [edns(4096)] })];
    expect([short.flag_tc, addresses(short)]).toEqual([true, []]);
    expect(extended.additionals).toMatchObject([{ type: "OPT" }]);
    expect([extended.flag_tc, addresses(extended).length]).toEqual([false, 40]);
    const stream = await box.dial(ANYBODY, 53);
    const bytes = streamEncode({ type: "query", id: 9, questions: [{ type: "A", name: "many.test" }] });
    // Two questions, the first in two parts.
    stream.write(bytes.subarray(0, 5));
    stream.write(Buffer.concat([bytes.subarray(5), bytes]));
    let read: Buffer = Buffer.alloc(0);
    for await (const chunk of stream) {
      read = Buffer.concat([read, chunk as Buffer]);
      if (read.length >= 2 && read.length >= 2 * (2 + read.readUInt16BE(0))) break;
    }
    expect(addresses(streamDecode(read)!).length).toBe(40);
  });

  test("what is no question is dropped, and a stream of it closed", async () => {
    const good = query("allowed.test");
    const pointers = Buffer.concat([good.subarray(0, 12), Buffer.from([0xc0, 0x0c, 0, 1, 0, 1])]);
    const answersToo = Buffer.from(good);
    answersToo.writeUInt16BE(65_535, 6);
    const noise = [
      Buffer.alloc(0),
      Buffer.from("x"),
      good.subarray(0, 15),
      pointers,
      answersToo,
      Buffer.alloc(3_000, 1),
    ];
    const response = encode({ type: "response", id: 1, questions: [{ type: "A", name: "allowed.test" }] });
    const answers = await askAll([...noise, response, good], 1);
    expect(answers.map((answer) => decode(answer).id)).toEqual([7]);
    for (const bytes of [Buffer.from([0, 1, 0]), Buffer.from([0xff, 0xff, 0])]) {
      const stream = await box.dial(ANYBODY, 53);
      stream.write(bytes);
      expect(await heard(stream)).toMatch(/^(reset)?$/);
      stream.destroy();
    }
  });
});

test("no more than so many questions are answered at a time", async () => {
  const found = Promise.withResolvers<string[]>();
  const judge = new Judge({}, { forbidden: new Forbidden(() => []), nameServers: [] });
  const answers = new DnsAnswers({ resolve: () => found.promise }, () => judge);
  const first = Array.from({ length: 64 }, (_, index) => answers.answer(query(`n${index}.test`), "udp"));
  expect(await answers.answer(query("beyond.test"), "udp")).toBeUndefined();
  found.resolve(["198.18.0.1"]);
  for (const answer of await Promise.all(first)) expect(decode(answer!).answers).toHaveLength(1);
  expect(await answers.answer(query("again.test"), "udp")).toBeDefined();
});

const edns = (udpPayloadSize: number): OptAnswer => {
  return {
    type: "OPT",
    name: ".",
    udpPayloadSize,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
};
