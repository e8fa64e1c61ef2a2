import { execFileSync } from "node:child_process";
import { Socket } from "node:net";
import type { NetworkPolicy } from "../../../src/contract/network.ts";
import { Forbidden } from "../../../src/host/network/forbidden.ts";
import { Gate } from "../../../src/host/network/gate.ts";
import type { Interceptor } from "../../../src/host/network/interceptor.ts";
import { Names } from "../../../src/host/network/names.ts";
import { dialIn } from "../../../src/host/network/namespace.ts";
import { ALL_ADDRESSES, OwnNetwork } from "./own-network.ts";

/** A network namespace out of which a gate is the only way. */
export class GatedBox {
  readonly gate: Gate;
  readonly namespace: number;
  readonly #network: OwnNetwork;

  private constructor(network: OwnNetwork, options: BoxOptions) {
    this.#network = network;
    this.namespace = network.namespace;
    this.gate = Gate.open({
      namespace: this.namespace,
      policy: options.policy,
      forbidden: Forbidden.ofThisMachine(),
      names: new Names([options.resolver]),
      interceptor: options.interceptor,
    });
    const { tcp, dns } = this.gate.ports;
    const rules = `table inet box {
      chain out {
        type nat hook output priority -110
        ip daddr 127.0.0.0/8 accept
        ip6 daddr ::1 accept
        meta l4proto { tcp, udp } th dport 53 redirect to :${dns}
        meta l4proto tcp redirect to :${tcp}
      }
    }`;
    execFileSync("nsenter", [`--net=${this.path}`, "nft", "-f", "-"], { input: rules });
  }

  static async open(options: BoxOptions): Promise<GatedBox> {
    return new GatedBox(await OwnNetwork.open(ALL_ADDRESSES), options);
  }

  /** Of the namespace, for `nsenter`. */
  get path(): string {
    return this.#network.path;
  }

  /** A connection from inside. One that is reset at once may be so before it is known to stand: it is given as one that has ended. */
  async dial(address: string, port: number): Promise<Socket> {
    try {
      const socket = (await dialIn(this.namespace, port, address)) as Socket;
      return socket.on("error", () => {});
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ECONNRESET") throw error;
      return new Socket().destroy();
    }
  }

  close(): void {
    this.gate.close();
    this.#network.close();
  }
}

export interface BoxOptions {
  policy: NetworkPolicy;
  resolver: string;
  interceptor?: Interceptor;
}

export const outbound = (cidrs: string[], domains: string[] = []): NetworkPolicy => ({ outbound: { cidrs, domains } });

/** What comes until there is as much as is waited for, or the end, `"reset"` where it ends as one. */
export async function heard(socket: Socket, until?: string | RegExp): Promise<string> {
  let text = "";
  if (socket.destroyed) return "reset";
  const { promise, resolve } = Promise.withResolvers<void>();
  const data = (chunk: Buffer) => {
    text += chunk.toString("latin1");
    if (until !== undefined && (typeof until === "string" ? text.includes(until) : until.test(text))) resolve();
  };
  const broke = () => {
    if (!socket.readableEnded) text += "reset";
    resolve();
  };
  socket.on("data", data).once("end", resolve).once("close", broke).resume();
  const timer = setTimeout(resolve, 15_000);
  await promise;
  clearTimeout(timer);
  socket.off("data", data).off("end", resolve).off("close", broke).pause();
  return text;
}

/** Done once it has ended, however that is. */
export const closed = (socket: Socket) =>
  new Promise<void>((resolve) => {
    if (socket.destroyed) resolve();
    else socket.resume().once("close", () => resolve());
  });
