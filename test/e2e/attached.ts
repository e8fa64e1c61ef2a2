import { WebSocket } from "ws";
import { ATTACH_PROTOCOL, BEARER_PROTOCOL_PREFIX, CHANNEL, channelMessage } from "../../src/contract/attach.ts";
import { DEV_KEY, sleep, type Instance } from "./instance.ts";

/** A client attached to a process, as a person's terminal is: in the place of a browser, with its way to say the key. */
export class Attached {
  readonly socket: WebSocket;
  stdout: Buffer = Buffer.alloc(0);
  stderr: Buffer = Buffer.alloc(0);
  status: Record<string, unknown> | undefined;
  /** The text message of an exec over the socket: the process. */
  started: { process_id: string } | undefined;
  closed: { code: number; reason: string } | undefined;

  private constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on("message", (data: Buffer, isBinary) => this.#receive(data, isBinary));
    socket.on("close", (code, reason) => (this.closed = { code, reason: reason.toString() }));
    socket.on("error", () => undefined);
  }

  static async open(instance: Instance, path: string, how: "header" | "browser" = "header"): Promise<Attached> {
    const url = `${instance.url.replace("http", "ws")}/v1${path}`;
    const bearer = `${BEARER_PROTOCOL_PREFIX}${Buffer.from(DEV_KEY).toString("base64url")}`;
    const socket =
      how === "browser"
        ? new WebSocket(url, [ATTACH_PROTOCOL, bearer])
        : new WebSocket(url, { headers: { authorization: `Bearer ${DEV_KEY}` } });
    const attached = new Attached(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once("open", () => resolve());
      socket.once("error", reject);
    });
    return attached;
  }

  type(text: string | Uint8Array): void {
    this.socket.send(channelMessage(CHANNEL.stdin, text));
  }

  resize(rows: number, cols: number): void {
    this.socket.send(channelMessage(CHANNEL.resize, JSON.stringify({ Height: rows, Width: cols })));
  }

  endInput(): void {
    this.socket.send(channelMessage(CHANNEL.close, Uint8Array.of(CHANNEL.stdin)));
  }

  get text(): string {
    return this.stdout.toString();
  }

  /** Waits until the output, from its beginning, holds the text. */
  async sees(text: string | RegExp, timeoutMs = 15_000): Promise<void> {
    const giveUpAt = Date.now() + timeoutMs;
    while (!(typeof text === "string" ? this.text.includes(text) : text.test(this.text))) {
      if (Date.now() > giveUpAt || this.closed) throw new Error(`${String(text)} was not seen in:\n${this.text}`);
      await sleep(20);
    }
  }

  /** Waits for the server's close. The connection itself may go later, when the object sleeps: it is ended here. */
  async end(timeoutMs = 15_000): Promise<{ code: number; reason: string }> {
    const giveUpAt = Date.now() + timeoutMs;
    while (!this.closed) {
      if (this.socket.readyState === WebSocket.CLOSING) this.socket.terminate();
      if (Date.now() > giveUpAt) throw new Error(`The socket did not close:\n${this.text.slice(-2000)}`);
      await sleep(10);
    }
    return this.closed;
  }

  #receive(data: Buffer, isBinary: boolean): void {
    if (!isBinary) this.started = JSON.parse(data.toString()) as { process_id: string };
    else if (data[0] === CHANNEL.stdout) this.stdout = Buffer.concat([this.stdout, data.subarray(1)]);
    else if (data[0] === CHANNEL.stderr) this.stderr = Buffer.concat([this.stderr, data.subarray(1)]);
    else if (data[0] === CHANNEL.status)
      this.status = JSON.parse(data.subarray(1).toString()) as Record<string, unknown>;
  }
}
