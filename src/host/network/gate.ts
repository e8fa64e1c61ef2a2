import { createServer, type Server, type Socket } from "node:net";
import type { NetworkPolicy } from "../../contract/network.ts";
import { reset } from "../splice.ts";
import { dialAddress, dialName, familyOf } from "./dial.ts";
import { DnsAnswers } from "./dns-answers.ts";
import { DnsServer } from "./dns-server.ts";
import type { Forbidden } from "./forbidden.ts";
import { HttpForward } from "./http-forward.ts";
import { INTERCEPTED_PORT, type Interceptor } from "./interceptor.ts";
import { Judge } from "./judge.ts";
import { openListeners, type Listeners } from "./listeners.ts";
import type { Names } from "./names.ts";
import { originalDestination } from "./namespace.ts";
import { Passage } from "./passage.ts";
import { sniff } from "./sniff.ts";

const MAX_CONNECTIONS = 1_024;
const SNIFF_TIMEOUT_MS = 10_000;
/** Of a connection that may go on whatever it is: its other end may be the one to speak first. */
const SHORT_SNIFF_TIMEOUT_MS = 1_000;
const KEEP_ALIVE_MS = 60_000;

export interface GateOptions {
  /** A descriptor of the network namespace; the caller's. */
  namespace: number;
  policy: NetworkPolicy;
  forbidden: Forbidden;
  names: Names;
  /** Takes connections whose requests get something added. */
  interceptor?: Interceptor | undefined;
}

/**
 * The way out of a sandbox's network where the kernel alone cannot judge. What is redirected to its ports goes on from this machine: to
 * the address that it was for, where that is allowed, or else to what this machine finds under the name that it is for. Whom the servers of
 * an allowed domain serve besides is not seen inside of TLS: a name there that is not the one of the hello is theirs to refuse.
 */
export class Gate {
  /** On the loopback of the namespace. `dns`: of UDP and of TCP. */
  readonly ports: { tcp: number; dns: number };
  readonly #options: GateOptions;
  readonly #servers: Server[];
  readonly #dns: DnsServer;
  readonly #passages = new Set<Passage>();
  #judge: Judge;

  /** Throws where the namespace does not let it. */
  static open(options: GateOptions): Gate {
    return new Gate(options, openListeners(options.namespace));
  }

  private constructor(options: GateOptions, { tcp, dns }: Listeners) {
    this.#options = options;
    this.ports = { tcp: tcp.port, dns: dns.port };
    this.#judge = this.#judgeOf(options.policy);
    this.#dns = new DnsServer(new DnsAnswers(options.names, () => this.#judge), dns);
    this.#servers = tcp.sockets.map(({ fd }) => {
      const server = createServer({
        allowHalfOpen: true,
        pauseOnConnect: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: KEEP_ALIVE_MS,
      });
      server.on("error", (error) => console.error("sandbar host: the gate of a sandbox:", error));
      server.on("connection", (socket: Socket) => this.#take(socket));
      return server.listen({ fd });
    });
  }

  /** Other rules from now on: what they forbid is cut. */
  setPolicy(policy: NetworkPolicy): void {
    this.#judge = this.#judgeOf(policy);
    for (const passage of this.#passages) passage.judgeBy(this.#judge);
  }

  /** Ends all that goes through it. */
  close(): void {
    this.#dns.close();
    for (const server of this.#servers) server.close();
    for (const passage of this.#passages) passage.cut();
  }

  #judgeOf(policy: NetworkPolicy): Judge {
    const { forbidden, names } = this.#options;
    return new Judge(policy, { forbidden, nameServers: names.servers });
  }

  /** The sandbox holds its connection established by then: one that is refused it sees as reset. */
  #take(socket: Socket): void {
    socket.on("error", () => {});
    const destination = originalDestination(socket);
    if (!destination || this.#passages.size >= MAX_CONNECTIONS || this.#judge.isForbidden(destination.address)) {
      return reset(socket);
    }
    const passage = new Passage(socket, destination, (ended) => this.#passages.delete(ended));
    this.#passages.add(passage);
    this.#pass(passage).catch(() => passage.cut());
  }

  /** Every answer that is waited for may come under other rules than those it was asked under: the rules are asked last. */
  async #pass(passage: Passage): Promise<void> {
    const { socket, address, port } = passage;
    const { interceptor } = this.#options;
    const mayIntercept = interceptor !== undefined && port === INTERCEPTED_PORT;
    if (this.#judge.allowsAddress(address) && !mayIntercept) return this.#passToAddress(passage);
    if (!mayIntercept && !this.#judge.opensDomains) return passage.cut();
    const opening = await sniff(socket, this.#judge.allowsAddress(address) ? SHORT_SNIFF_TIMEOUT_MS : SNIFF_TIMEOUT_MS);
    if (passage.signal.aborted) return;
    if (
      opening.kind === "tls" &&
      mayIntercept &&
      interceptor.takes(opening.name) &&
      this.#judge.allowsName(opening.name)
    ) {
      passage.allowBy((judge) => judge.allowsName(opening.name));
      return interceptor.accept(socket, opening.name);
    }
    if (this.#judge.allowsAddress(address)) return this.#passToAddress(passage);
    if (opening.kind === "tls" && this.#judge.allowsName(opening.name)) return this.#passToName(passage, opening.name);
    if (opening.kind === "http" && this.#judge.opensDomains) return this.#passRequests(passage);
    passage.cut();
  }

  async #passToAddress(passage: Passage): Promise<void> {
    passage.allowBy((judge) => judge.allowsAddress(passage.address));
    passage.join(await dialAddress(passage.address, passage.port, passage.signal));
  }

  async #passToName(passage: Passage, name: string): Promise<void> {
    passage.allowBy((judge) => judge.allowsName(name));
    passage.join(await this.#dialName(passage, name, passage.signal));
  }

  #passRequests(passage: Passage): void {
    const forward = new HttpForward(passage.socket, {
      scheme: "http",
      allows: (name) => this.#judge.allowsName(name),
      dial: (name, signal) => this.#dialName(passage, name, signal),
    });
    passage.allowBy((judge) => forward.name === undefined || judge.allowsName(forward.name));
  }

  #dialName({ address, port }: Passage, name: string, signal: AbortSignal): Promise<Socket> {
    return dialName(this.#options, name, port, { first: familyOf(address), signal });
  }
}
