import { once } from "node:events";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { BODY_HEADER, BODY_LENGTH_HEADER } from "../../src/contract/body-apart.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { SignedHost, type Answer } from "./signed-host.ts";

export const MIB = 1_048_576;

/** Bytes that tell their places apart. */
export const pattern = (size: number) =>
  Buffer.from(Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 9)) & 0xff));

export const withLength = (length: number) => ({ [BODY_LENGTH_HEADER]: String(length) });

export interface Opening {
  path?: string;
  signature?: string;
  more?: string;
}

/** A host with a sandbox, an app on a port of that, and bodies that go there by themselves. */
export class BodyHost {
  host!: SignedHost;
  box!: string;
  port!: number;
  /** What the app does with each connection. */
  serve!: (socket: Socket) => void;
  #app!: Server;
  /** All that the app was sent. */
  #got: Buffer[] = [];

  async start(): Promise<void> {
    this.host = await SignedHost.start(new ChildRuntime());
    this.box = await this.host.sandbox();
  }

  async listen(): Promise<void> {
    this.#got = [];
    this.#app = createServer((socket) => {
      socket.on("error", () => {}).on("data", (part) => this.#got.push(part as Buffer));
      this.serve(socket);
    });
    await once(this.#app.listen(0, "127.0.0.1"), "listening");
    this.port = (this.#app.address() as AddressInfo).port;
  }

  closeApp(): void {
    this.#app.close();
  }

  /** What the app was sent behind the head. */
  get body(): Buffer {
    const all = Buffer.concat(this.#got);
    return all.subarray(all.indexOf("\r\n\r\n") + 4);
  }

  /** What the app was told of the body's form. */
  get framing(): string[] | null {
    const head = Buffer.concat(this.#got).toString("latin1").split("\r\n\r\n", 1)[0]!.toLowerCase();
    return head.match(/content-length: .*|transfer-encoding.*/g);
  }

  /** Answers once so many bytes of the body have come, and a while has passed. */
  answerAfter(bytes: number, delayMs = 0): (socket: Socket) => void {
    return (socket) => {
      socket.on("data", () => {
        if (this.body.length < bytes) return;
        setTimeout(() => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"), delayMs);
      });
    };
  }

  /** A connection for the body of that id, and what the host says to it first. */
  async open(id: string, { path, signature, more = "" }: Opening = {}): Promise<[Socket, string]> {
    const target = path ?? `${this.box}/ports/${this.port}/bodies/${id}`;
    const socket = connect(this.host.daemon.port, "127.0.0.1");
    socket.on("error", () => {});
    const signed = signature ?? (await this.host.sign("PUT", target));
    socket.write(
      `PUT ${target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: sandbar-body\r\nx-sandbar-signature: ${signed}\r\n\r\n${more}`,
    );
    const [first] = (await once(socket, "data", { signal: AbortSignal.timeout(10_000) })) as [Buffer];
    return [socket, String(first).split("\r\n", 1)[0]!];
  }

  /** The request of that body. */
  request(
    id: string,
    headers: Record<string, string> = {},
    { box = this.box, port = this.port } = {},
  ): Promise<Answer> {
    return this.host.call("POST", `${box}/ports/${port}/proxy`, { headers: { [BODY_HEADER]: id, ...headers } });
  }
}
