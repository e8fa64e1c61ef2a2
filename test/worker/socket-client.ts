import { ATTACH_PROTOCOL, CHANNEL, channelMessage, type AttachStatus } from "../../src/contract/attach.ts";
import { ADMIN_KEY, ORIGIN, send } from "./client.ts";

export interface SocketOptions {
  key?: string | null;
  protocols?: string[];
  headers?: Record<string, string>;
}

/** Asks for a socket, with the admin key unless another is given; the answer is whatever comes. */
export function upgrade(path: string, { key = ADMIN_KEY, protocols = [], headers = {} }: SocketOptions = {}) {
  const all = new Headers({ upgrade: "websocket", ...headers });
  if (key !== null) all.set("authorization", `Bearer ${key}`);
  if (protocols.length > 0) all.set("sec-websocket-protocol", protocols.join(", "));
  return send(new Request(ORIGIN + path, { headers: all }));
}

/** A client's socket, and all that came on it. */
export class TestSocket {
  readonly socket: WebSocket;
  readonly texts: string[] = [];
  readonly channels: Record<number, string> = {};
  closed: { code: number; reason: string } | undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (typeof data === "string") {
        this.texts.push(data);
        return;
      }
      const bytes = new Uint8Array(data as ArrayBuffer);
      this.channels[bytes[0]!] = (this.channels[bytes[0]!] ?? "") + new TextDecoder().decode(bytes.subarray(1));
    });
    socket.addEventListener("close", ({ code, reason }) => {
      this.closed = { code, reason };
    });
    socket.binaryType = "arraybuffer";
    socket.accept();
  }

  static async open(path: string, options: SocketOptions = { protocols: [ATTACH_PROTOCOL] }): Promise<TestSocket> {
    const response = await upgrade(path, options);
    if (!response.webSocket) throw new Error(`${response.status}: ${await response.text()}`);
    return new TestSocket(response.webSocket);
  }

  get stdout(): string {
    return this.channels[CHANNEL.stdout] ?? "";
  }

  get stderr(): string {
    return this.channels[CHANNEL.stderr] ?? "";
  }

  get status(): AttachStatus | undefined {
    const text = this.channels[CHANNEL.status];
    return text === undefined ? undefined : (JSON.parse(text) as AttachStatus);
  }

  send(channel: number, payload: string | Uint8Array): void {
    this.socket.send(channelMessage(channel, payload));
  }

  endStdin(): void {
    this.send(CHANNEL.close, Uint8Array.of(CHANNEL.stdin));
  }
}
