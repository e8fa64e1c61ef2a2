import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import * as packet from "dns-packet";
import { plainAddress } from "./lab-servers.ts";
import type { Hit, Names } from "./lab-plan.ts";

const RESPONSE = packet.AUTHORITATIVE_ANSWER | packet.RECURSION_AVAILABLE;
const NAME_ERROR = 3;

/** A DNS server that has names of its own, and tells of every question. */
export class LabDns {
  readonly names: Names = {};
  readonly #record: (hit: Hit) => void;
  readonly #turns = new Map<string, number>();

  constructor(record: (hit: Hit) => void) {
    this.#record = record;
  }

  async listen(addresses: readonly string[]): Promise<void> {
    await Promise.all([this.#listenTcp(), ...addresses.map((address) => this.#listenUdp(address))]);
  }

  async #listenUdp(address: string): Promise<void> {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    socket.on("message", (message, { address: asker, port }) => {
      const answer = this.#answer(message, address);
      if (answer) socket.send(packet.encode(answer), port, asker);
    });
    await new Promise<void>((resolve) => socket.bind(53, address, resolve));
  }

  async #listenTcp(): Promise<void> {
    const server = createServer((socket) => {
      let read = Buffer.alloc(0);
      const address = plainAddress(socket);
      this.#record({ kind: "tcp", address, port: 53, text: "" });
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        for (read = Buffer.concat([read, chunk]); read.length >= 2;) {
          const end = 2 + read.readUInt16BE(0);
          if (read.length < end) return;
          const answer = this.#answer(read.subarray(2, end), address);
          read = read.subarray(end);
          if (answer) socket.write(packet.streamEncode(answer));
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(53, "::", resolve));
  }

  #answer(message: Buffer, address: string): packet.Packet | undefined {
    let query: packet.DecodedPacket;
    try {
      query = packet.decode(message);
    } catch {
      this.#record({ kind: "dns", address, port: 53, text: message.toString("latin1") });
      return undefined;
    }
    const questions = query.questions ?? [];
    for (const { type, name } of questions) this.#record({ kind: "dns", address, port: 53, text: `${type} ${name}` });
    const [question] = questions;
    const answers = question && this.#look(question.name.toLowerCase(), question.type);
    const flags = RESPONSE | (answers ? 0 : NAME_ERROR) | ((query.flags ?? 0) & packet.RECURSION_DESIRED);
    return { type: "response", id: query.id ?? 0, flags, questions, answers: answers ?? [] };
  }

  /** Undefined of a name that nobody has. */
  #look(name: string, type: string): packet.Answer[] | undefined {
    const found = this.#entry(name);
    if (!found) return undefined;
    const [key, turns] = found;
    // Each type has turns of its own: both families of one look-up get the same.
    const turnKey = `${type} ${key}`;
    const turn = this.#turns.get(turnKey) ?? 0;
    this.#turns.set(turnKey, turn + 1);
    const ttl = 1;
    const answers: packet.Answer[] = [];
    for (const data of turns[turn % turns.length]!) {
      const family = /^[\d.]+$/.test(data) ? "A" : data.includes(":") ? "AAAA" : undefined;
      if (family === type) answers.push({ type: family, name, ttl, data });
      if (family === undefined) answers.push({ type: "CNAME", name, ttl, data }, ...(this.#look(data, type) ?? []));
    }
    return answers;
  }

  #entry(name: string): [string, string[][]] | undefined {
    const labels = name.split(".");
    const wild = labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join(".")}`);
    const key = [name, ...wild].find((one) => Object.hasOwn(this.names, one));
    return key === undefined ? undefined : [key, this.names[key]!];
  }
}
