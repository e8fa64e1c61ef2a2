import { Agent, request, type IncomingMessage } from "node:http";
import { WebSocket } from "ws";
import { CHANNEL, channelMessage } from "../../src/contract/attach.ts";
import { DEV_KEY, type Instance } from "../e2e/instance.ts";

/** A client that keeps its connections, as those do that run many commands. */
export class BenchClient {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 128 });
  readonly #instance: Instance;
  readonly #key: string;

  constructor(instance: Instance, key = DEV_KEY) {
    this.#instance = instance;
    this.#key = key;
  }

  open(method: string, path: string, body?: object, headers: Record<string, string> = {}): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const call = request(
        {
          agent: this.#agent,
          host: "127.0.0.1",
          port: this.#instance.port,
          method,
          path: `/v1${path}`,
          headers: { authorization: `Bearer ${this.#key}`, "content-type": "application/json", ...headers },
        },
        resolve,
      );
      call.on("error", reject);
      call.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async json<T>(method: string, path: string, body?: object): Promise<T> {
    const answer = await this.open(method, path, body);
    let text = "";
    for await (const chunk of answer) text += String(chunk);
    if (answer.statusCode! >= 300) throw new Error(`${method} ${path}: ${answer.statusCode} ${text}`);
    return JSON.parse(text) as T;
  }

  /** A call without an answer. */
  async run(method: string, path: string): Promise<void> {
    const answer = await this.open(method, path);
    for await (const _ of answer);
    if (answer.statusCode! >= 300) throw new Error(`${method} ${path}: ${answer.statusCode}`);
  }

  /** An exec from the request to its answer with the end and the output. */
  async exec(sandboxId: string, command: string[]): Promise<void> {
    const body = { command };
    const { returncode } = await this.json<{ returncode: number }>(
      "POST",
      `/sandboxes/${sandboxId}/exec?wait=60`,
      body,
    );
    if (returncode !== 0) throw new Error(`${command.join(" ")} ended with ${returncode}`);
  }

  /** Milliseconds to the first output of a streamed exec. */
  async firstByte(sandboxId: string, command: string[]): Promise<number> {
    const begin = performance.now();
    const answer = await this.open(
      "POST",
      `/sandboxes/${sandboxId}/exec`,
      { command },
      { accept: "text/event-stream" },
    );
    let took = 0;
    let text = "";
    for await (const chunk of answer) {
      text += String(chunk);
      if (took === 0 && text.includes("event: stdout")) took = performance.now() - begin;
    }
    return took;
  }

  /** Seconds that all of a process's stdout takes; answers also how much came. */
  async drain(sandboxId: string, command: string[]): Promise<{ seconds: number; bytes: number }> {
    const begin = performance.now();
    const { process_id } = await this.json<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, { command });
    const answer = await this.open("GET", `/sandboxes/${sandboxId}/processes/${process_id}/stdout?follow=true`);
    let bytes = 0;
    for await (const chunk of answer) bytes += (chunk as Buffer).length;
    return { seconds: (performance.now() - begin) / 1000, bytes };
  }

  /** Round trips of a byte through an attached `cat`, in milliseconds. */
  async echoes(sandboxId: string, count: number): Promise<number[]> {
    const body = { command: ["cat"], open_stdin: true };
    const { process_id } = await this.json<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, body);
    const url = `ws://127.0.0.1:${this.#instance.port}/v1/sandboxes/${sandboxId}/processes/${process_id}/attach`;
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${DEV_KEY}` } });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    const times: number[] = [];
    for (let index = -5; index < count; index++) {
      const begin = performance.now();
      socket.send(channelMessage(CHANNEL.stdin, "x"));
      await new Promise((resolve) => socket.once("message", resolve));
      if (index >= 0) times.push(performance.now() - begin);
    }
    socket.send(channelMessage(CHANNEL.close, Uint8Array.of(CHANNEL.stdin)));
    await new Promise((resolve) => socket.once("close", resolve));
    return times;
  }
}
