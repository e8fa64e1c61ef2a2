import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

/** A TCP proxy before an instance: what a host behind it sends is counted, whatever it is sent for. */
export class CountingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes that went to the instance so far. */
  sentBytes = 0;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(toPort: number): Promise<CountingProxy> {
    const server = createServer({ allowHalfOpen: true });
    const proxy = new CountingProxy(server);
    server.on("connection", (client) => proxy.#join(client, connect({ port: toPort, host: "127.0.0.1" })));
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What is sent while it runs. */
  async during(run: () => Promise<unknown>): Promise<number> {
    const before = this.sentBytes;
    await run();
    return this.sentBytes - before;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #join(client: Socket, upstream: Socket): void {
    client.on("data", (chunk: Buffer) => (this.sentBytes += chunk.length));
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(from);
      from.setNoDelay(true);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
