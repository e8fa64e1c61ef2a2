import {
  Agent,
  createServer,
  request as httpRequest,
  type ClientRequest,
  type IncomingMessage,
  type ServerOptions,
  type ServerResponse,
} from "node:http";
import type { Duplex } from "node:stream";
import { hasBody, headOfLast, headOfUpgrade, passHead, upgradeTo } from "../http-head.ts";
import { endToEndHeaders } from "../proxy-headers.ts";
import { reset, splice } from "../splice.ts";
import { failure } from "./connecting.ts";
import { Refusal, refusalOf } from "./http-refusal.ts";
import { targetOf, type Target } from "./http-target.ts";

/** Requests that wait for the one before them. */
const MAX_WAITING = 64;

export interface ForwardOptions {
  /** What its requests would say in full. */
  scheme: "http" | "https";
  /** Whether requests to the domain may go out; asked of each when it is its turn. */
  allows(name: string): boolean;
  /** Connects to the domain; rejects with an error with a `code`. */
  dial(name: string, signal: AbortSignal): Promise<Duplex>;
  /** What requests to the domain get on their way, in place of the sandbox's own headers of these names. */
  added?(name: string): readonly (readonly [header: string, value: string])[];
}

type Parts = ServerOptions & { shouldUpgradeCallback: (request: IncomingMessage) => boolean };

/**
 * Serves the requests of HTTP/1 of one connection of a sandbox: each goes to the domain that it is for, where that is allowed. One after the
 * other, as HTTP/1 answers them; over one connection for as long as they are for one domain.
 */
export class HttpForward {
  readonly #socket: Duplex;
  readonly #options: ForwardOptions;
  readonly #closed = new AbortController();
  #upstream: Upstream | undefined;
  #turn: Promise<void> = Promise.resolve();
  #waiting = 0;

  /** Serves a connection from now on, until it ends. */
  constructor(socket: Duplex, options: ForwardOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on("error", () => {});
    socket.once("close", () => {
      this.#closed.abort();
      this.#upstream?.destroy();
    });
    // Java asks to go on in HTTP/2 with every request: that need not be answered to.
    const parts: Parts = {
      keepAliveTimeout: 0,
      noDelay: true,
      shouldUpgradeCallback: (request) => !asksForHttp2(request),
    };
    const server = createServer(parts, (request, response) => {
      response.sendDate = false;
      this.#inTurn(() => this.#forward(request, response));
    });
    server.on("upgrade", (request, stream, head) => {
      if (this.#waiting > 0 || asksForHttp2(request)) reset(stream);
      else this.#inTurn(() => this.#forwardUpgrade(request, stream, head));
    });
    server.on("connect", (_, stream) => stream.end(new Refusal(405, "A sandbox may not ask for a tunnel.").text()));
    server.emit("connection", socket);
    socket.resume();
  }

  /** The domain that the last request was for. */
  get name(): string | undefined {
    return this.#upstream?.name;
  }

  #inTurn(work: () => Promise<void>): void {
    if (this.#waiting === MAX_WAITING) return reset(this.#socket);
    this.#waiting++;
    this.#turn = this.#turn
      .then(() => (this.#closed.signal.aborted ? undefined : work()))
      .catch(() => reset(this.#socket))
      .finally(() => this.#waiting--);
  }

  async #forward(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const upstream = this.#ask(request, []);
    if (upstream instanceof Refusal) return upstream.answer(response);
    await new Promise<void>((resolve) => {
      let hasAnswered = false;
      response.once("close", () => {
        if (!response.writableFinished) upstream.destroy();
        resolve();
      });
      upstream.on("error", (cause) => {
        // As it is where nothing is in between: who keeps a connection must expect that it has ended.
        if (hasAnswered || upstream.reusedSocket) reset(this.#socket);
        else refusalOf(cause).answer(response);
      });
      upstream.once("response", (answer) => {
        hasAnswered = true;
        answer.on("error", () => reset(this.#socket));
        if (/\bclose\b/i.test(answer.headers.connection ?? "")) response.shouldKeepAlive = false;
        if (passHead(answer, response)) answer.pipe(response);
        else reset(this.#socket);
      });
      // Switched unasked.
      upstream.once("upgrade", () => reset(this.#socket));
      if (!hasBody(request)) return void upstream.end();
      // Who sends a body may wait for an answer to what came before it.
      upstream.flushHeaders();
      request.pipe(upstream);
    });
  }

  /** What follows the request is passed on once the other side has agreed, and not before: until then it would be one more request. */
  async #forwardUpgrade(request: IncomingMessage, stream: Duplex, head: Buffer): Promise<void> {
    const upstream = this.#ask(request, upgradeTo(request.headers.upgrade));
    if (upstream instanceof Refusal) return void stream.end(upstream.text());
    await new Promise<void>((resolve) => {
      stream.once("close", () => {
        upstream.destroy();
        resolve();
      });
      let hasAnswered = false;
      upstream.on("error", (cause) => {
        if (hasAnswered) reset(stream);
        else stream.end(refusalOf(cause).text());
      });
      upstream.once("upgrade", (answer, other, otherHead) => {
        hasAnswered = true;
        stream.write(headOfUpgrade(answer), "latin1");
        if (otherHead.length > 0) stream.write(otherHead);
        if (head.length > 0) other.write(head);
        splice(stream, other);
      });
      upstream.once("response", (answer) => {
        hasAnswered = true;
        answer.on("error", () => reset(stream));
        stream.write(headOfLast(answer), "latin1");
        answer.pipe(stream);
      });
      upstream.end();
    });
  }

  /** Begins to ask the domain that the request is for. */
  #ask(request: IncomingMessage, own: string[]): ClientRequest | Refusal {
    const { scheme, allows, added } = this.#options;
    const target = targetOf(request, scheme);
    if (!target) return new Refusal(400, "The request does not name one domain as its host.");
    // Over TLS the connection itself is for one domain.
    if (!allows(target.name) && scheme === "https")
      return new Refusal(421, `This connection is not for ${target.name}.`);
    if (!allows(target.name)) return new Refusal(403, `This sandbox may not connect to ${target.name}.`);
    const extra = added?.(target.name) ?? [];
    // It asks for its own headers back.
    if (request.method === "TRACE" && extra.length > 0) return new Refusal(405, "A sandbox may not trace a request.");
    const replaced = new Set(extra.map(([header]) => header.toLowerCase()));
    const headers = endToEndHeaders(request.rawHeaders);
    const kept = headers.filter((_, index) => !replaced.has(headers[index - (index % 2)]!.toLowerCase()));
    if (request.headers["transfer-encoding"] !== undefined) own = [...own, "Transfer-Encoding", "chunked"];
    try {
      return httpRequest({
        agent: this.#upstreamTo(target),
        host: target.name,
        method: request.method!,
        path: target.path,
        headers: [...kept, ...extra.flat(), ...own],
        setHost: false,
      });
    } catch {
      return new Refusal(400, "The request cannot be passed on.");
    }
  }

  #upstreamTo({ name }: Target): Upstream {
    if (this.#upstream?.name === name) return this.#upstream;
    this.#upstream?.destroy();
    const upstream = new Upstream(name, async () => {
      const socket = await this.#options.dial(name, this.#closed.signal);
      if (this.#closed.signal.aborted) {
        reset(socket);
        throw Object.assign(new Error("nobody asks any more"), { code: "ECONNABORTED" });
      }
      // The rules may have changed meanwhile.
      if (!this.#options.allows(name)) {
        reset(socket);
        throw failure("EACCES", `${name} is not allowed any more`);
      }
      // Whoever keeps a connection learns of its end as the other side of it says so.
      socket.once("close", () => {
        if (this.#upstream === upstream && this.#waiting === 0) this.#socket.end();
      });
      return socket;
    });
    this.#upstream = upstream;
    return upstream;
  }
}

/** The one connection to a domain. */
class Upstream extends Agent {
  readonly name: string;
  readonly #dial: () => Promise<Duplex>;

  constructor(name: string, dial: () => Promise<Duplex>) {
    super({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });
    this.name = name;
    this.#dial = dial;
  }

  createConnection(_options: unknown, callback?: (error: Error | null, stream: Duplex) => void): undefined {
    this.#dial().then(
      (socket) => callback!(null, socket),
      (error: Error) => callback!(error, undefined as never),
    );
  }
}

const asksForHttp2 = ({ headers: { upgrade = "" } }: IncomingMessage) => /\bh2c?\b/i.test(upgrade);
