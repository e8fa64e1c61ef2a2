import { createServer, type IncomingMessage } from "node:http";
import { WebSocketServer, type WebSocket } from "ws";
import { CHANNEL, channelMessage, START } from "../../src/contract/attach.ts";
import { listening } from "./signed-host.ts";

/** What the sandbox's object is to a host: the place where it dials back. Messages come as the object passes them on. */
export class ObjectStandIn {
  readonly url: string;
  readonly requests: IncomingMessage[] = [];
  readonly #server: WebSocketServer;
  readonly #arrivals: ((socket: ObjectSocket) => void)[] = [];

  private constructor(server: WebSocketServer, port: number) {
    this.#server = server;
    this.url = `http://127.0.0.1:${port}`;
    server.on("connection", (socket, request) => {
      this.requests.push(request);
      this.#arrivals.shift()?.(new ObjectSocket(socket));
    });
  }

  static async start(): Promise<ObjectStandIn> {
    const http = createServer((_, response) => response.writeHead(404).end());
    const server = new WebSocketServer({ server: http });
    return new ObjectStandIn(server, await listening(http));
  }

  /** The next socket that a host opens. */
  next(): Promise<ObjectSocket> {
    return new Promise((resolve) => this.#arrivals.push(resolve));
  }

  close(): void {
    for (const socket of this.#server.clients) socket.terminate();
    this.#server.close();
  }
}

/** The object's end of an attachment. */
export class ObjectSocket {
  readonly socket: WebSocket;
  readonly received = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  /** Kept besides, for outputs too large to be put together. */
  bytes = 0;
  keepsBytes = true;
  status: Record<string, unknown> | undefined;
  closeOrder: { code: number; reason: string } | undefined;
  readonly acks: { stdin: number }[] = [];

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data: Buffer, isBinary) => this.#receive(data, isBinary));
  }

  start(): void {
    this.socket.send(START);
  }

  send(channel: number, payload: Uint8Array | string): void {
    this.socket.send(channelMessage(channel, payload));
  }

  get text(): string {
    return this.received.stdout.toString();
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (!isBinary) {
      this.closeOrder = (JSON.parse(data.toString()) as { close: ObjectSocket["closeOrder"] }).close;
      return;
    }
    const payload = data.subarray(1);
    if (data[0] === CHANNEL.status) this.status = JSON.parse(payload.toString()) as Record<string, unknown>;
    else if (data[0] === CHANNEL.ack) this.acks.push(JSON.parse(payload.toString()) as { stdin: number });
    else {
      this.bytes += payload.length;
      if (!this.keepsBytes) return;
      const stream = data[0] === CHANNEL.stdout ? "stdout" : "stderr";
      this.received[stream] = Buffer.concat([this.received[stream], payload]);
    }
  }
}
