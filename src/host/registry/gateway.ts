import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { answerGateway } from "./gateway-routes.ts";
import type { BlobUpload } from "./blob-upload.ts";
import { Upstream } from "./upstream.ts";

/** What a host was allowed by the control plane: one repository, for a while. */
export interface GrantedRepository {
  repository: string;
  /** A bearer token of the control plane's. */
  token: string;
}

/** A grant in use at the gateway. */
export interface Visit {
  readonly repository: string;
  readonly upstream: Upstream;
  readonly uploads: Map<string, BlobUpload>;
  /** Bytes of blobs that were sent up. */
  uploadedBytes: number;
}

/** How the engine gets to a repository: the name that it knows it by, and what it has to show. */
export interface Entrance {
  /** `127.0.0.1:<port>/<repository>` */
  name: string;
  auth: { username: string; password: string; serveraddress: string };
}

/**
 * The control plane's registry as this machine's engine sees it: on the loopback, where engines take plain HTTP, so that nothing
 * of theirs needs to be configured. It shows the control plane's grants, which the engine never gets, and cuts uploads into
 * chunks that the platform takes. It lets in only whoever has the password that is made for one pull or push.
 */
export class Gateway {
  readonly #url: string;
  readonly #visits = new Map<string, { visit: Visit; password: string }>();
  #server: Promise<Server> | undefined;

  readonly #onListening: (address: string) => Promise<void>;

  /** `controlPlaneUrl` without a trailing slash. `onListening` is told where it listens before anything comes through. */
  constructor(controlPlaneUrl: string, onListening: (address: string) => Promise<void> = async () => undefined) {
    this.#url = controlPlaneUrl;
    this.#onListening = onListening;
  }

  /** Lets the engine in while `work` goes on. */
  async admit<T>(granted: GrantedRepository, work: (entrance: Entrance, visit: Visit) => Promise<T>): Promise<T> {
    const serveraddress = addressOf(await this.#listening());
    const username = randomBytes(12).toString("hex");
    const password = randomBytes(24).toString("hex");
    const { repository, token } = granted;
    const upstream = new Upstream(this.#url, token);
    const visit: Visit = { repository, upstream, uploads: new Map(), uploadedBytes: 0 };
    this.#visits.set(username, { visit, password });
    try {
      return await work({ name: `${serveraddress}/${repository}`, auth: { username, password, serveraddress } }, visit);
    } finally {
      this.#visits.delete(username);
      for (const upload of visit.uploads.values()) void upload.cancel();
    }
  }

  async close(): Promise<void> {
    const server = await this.#server?.catch(() => undefined);
    server?.closeAllConnections();
    server?.close();
  }

  #listening(): Promise<Server> {
    this.#server ??= this.#listen().catch((error: unknown) => {
      this.#server = undefined;
      throw error;
    });
    return this.#server;
  }

  async #listen(): Promise<Server> {
    const server = await listen((request, response) => void answerGateway(this.#visitor(request), request, response));
    await this.#onListening(addressOf(server));
    return server;
  }

  #visitor(request: IncomingMessage): Visit | undefined {
    const basic = /^Basic ([A-Za-z0-9+/=]+)$/.exec(request.headers.authorization ?? "")?.[1];
    const [username = "", password = ""] = Buffer.from(basic ?? "", "base64")
      .toString()
      .split(":");
    const known = this.#visits.get(username);
    return known && isEqual(known.password, password) ? known.visit : undefined;
  }
}

const addressOf = (server: Server): string => `127.0.0.1:${(server.address() as AddressInfo).port}`;

function isEqual(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

function listen(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    // Bodies may take as long as they take.
    const server = createServer({ requestTimeout: 0 }, handler);
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => resolve(server.unref()));
  });
}
