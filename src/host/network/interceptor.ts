import type { Socket } from "node:net";
import { connect as connectTls, TLSSocket } from "node:tls";
import type { NetworkPolicy } from "../../contract/network.ts";
import { withTimeLimit } from "../time-limit.ts";
import type { Authority } from "./authority.ts";
import { failure } from "./connecting.ts";
import { dialName, type DialContext } from "./dial.ts";
import { HttpForward } from "./http-forward.ts";

/** The only port on which TLS is looked into: the one that a domain's own name stands for. */
export const INTERCEPTED_PORT = 443;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const MIN_VERSION = "TLSv1.2";
/** What is forwarded is HTTP/1, both ways. */
const PROTOCOLS = ["http/1.1"];

/** Takes TLS connections of a sandbox to some domains, and speaks with the domains in its place. */
export interface Interceptor {
  /** Whether it takes connections to the domain, on {@link INTERCEPTED_PORT}. */
  takes(name: string): boolean;
  /** Serves a connection to the domain. `socket` is paused, with all that the sandbox has said still to be read. */
  accept(socket: Socket, name: string): void;
  /** Ends all that it serves. */
  close(): void;
}

type AddedHeaders = NonNullable<NetworkPolicy["headers"]>;
type Added = [header: string, value: string];

/**
 * Adds headers to a sandbox's HTTPS requests on their way out. The sandbox's programs speak TLS with this daemon, which vouches for the domain
 * by the authority that they trust, and this daemon with the domain: so what is added is never seen in the sandbox, unless the domain's own
 * answers repeat it.
 */
export class HeaderInterceptor implements Interceptor {
  readonly #authority: Authority;
  readonly #context: DialContext;
  #added: ReadonlyMap<string, Added[]> = new Map();
  readonly #sockets = new Set<Socket>();

  constructor(headers: AddedHeaders, authority: Authority, context: DialContext) {
    this.#authority = authority;
    this.#context = context;
    this.setHeaders(headers);
  }

  /** Adds others from now on, also to requests on connections that stand. */
  setHeaders(headers: AddedHeaders): void {
    const grouped = Map.groupBy(headers, ({ domain }) => domain);
    this.#added = new Map(
      [...grouped].map(([domain, all]) => [domain, all.map(({ header, value }): Added => [header, value])]),
    );
  }

  takes(name: string): boolean {
    return this.#added.has(name);
  }

  accept(socket: Socket, name: string): void {
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    const secure = new TLSSocket(socket, {
      isServer: true,
      secureContext: this.#authority.contextOf(name),
      ALPNProtocols: PROTOCOLS,
    });
    const timer = setTimeout(() => secure.destroy(), HANDSHAKE_TIMEOUT_MS);
    secure.once("close", () => clearTimeout(timer)).on("error", () => secure.destroy());
    secure.once("secure", () => {
      clearTimeout(timer);
      void new HttpForward(secure, {
        scheme: "https",
        allows: (asked) => asked === name,
        dial: (_, signal) => this.#dial(name, signal),
        added: () => this.#added.get(name) ?? [],
      });
    });
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Connects to the domain as it really is. */
  async #dial(name: string, signal: AbortSignal): Promise<TLSSocket> {
    const socket = await dialName(this.#context, name, INTERCEPTED_PORT, { first: 4, signal });
    const secure = connectTls({ socket, servername: name, ALPNProtocols: PROTOCOLS, minVersion: MIN_VERSION });
    const shaken = new Promise<void>((resolve, reject) => {
      secure.once("secureConnect", resolve).once("error", reject);
      secure.once("close", () => reject(failure("ECONNRESET", `${name} ended the connection`)));
    });
    try {
      await withTimeLimit(shaken, HANDSHAKE_TIMEOUT_MS, () => failure("ETIMEDOUT", `${name} did not answer in time`));
      return secure;
    } catch (error) {
      secure.destroy();
      throw secure.authorizationError ? failure("EUNVERIFIED", `${name} is not who it says`) : error;
    }
  }
}
