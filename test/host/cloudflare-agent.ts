import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import {
  AgentConnection,
  type AgentAddress,
  type AgentSocket,
  type Dial,
} from "../../src/backends/cloudflare/agent/connection.ts";
import { frame, list, numberAt, numbers, stringsOf, viewOf } from "../../src/backends/cloudflare/agent/frames.ts";
import { AGENT_PROGRAM } from "../../src/backends/cloudflare/agent/program.ts";
import { startFrame } from "../../src/backends/cloudflare/start-frame.ts";
import type { ExecSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import { OUTPUT_STREAMS, SIGNALS, type OutputStream } from "../../src/contract/process.ts";
import { freePort } from "../e2e/instance.ts";
import { until } from "./signed-host.ts";

/** Why no agent can run here; undefined where one can. */
export const noPerl = missing();
if (noPerl) console.log(`Cloudflare's agent: skipped, ${noPerl}`);

export { isRoot } from "./as-root.ts";

function missing(): string | undefined {
  try {
    execFileSync("perl", ["-e", "1"], { stdio: "pipe" });
    return undefined;
  } catch {
    return "this machine has no perl";
  }
}

const TOKEN = "0123456789abcdef".repeat(4);

/** The agent as a container runs it, but as a child of the test, on a port of this machine. */
export class Agent implements AgentAddress {
  readonly token = TOKEN;
  readonly port: number;
  readonly child: ChildProcess;
  readonly exited: Promise<number | NodeJS.Signals>;
  /** What it has complained about. */
  complaints = "";
  /** The socket of the last connection. */
  socket!: Socket;

  private constructor(port: number, wrapper: string[], env: Record<string, string>) {
    this.port = port;
    const [program, ...args] = [...wrapper, "perl", "-e", AGENT_PROGRAM];
    const own = { SANDBAR_AGENT_TOKEN: TOKEN, SANDBAR_AGENT_PORT: String(port) };
    this.child = spawn(program!, args, {
      env: { PATH: process.env["PATH"], HOME: "/", ...env, ...own },
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.child.stderr!.on("data", (chunk: Buffer) => (this.complaints += chunk.toString()));
    this.exited = once(this.child, "exit").then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  }

  /** `wrapper` is a program that starts it, as `setpriv`. */
  static async start(wrapper: string[] = [], env: Record<string, string> = {}): Promise<Agent> {
    const agent = new Agent(await freePort(), wrapper, env);
    await until(() => agent.answers()).catch((cause: unknown) => {
      throw new Error(`The agent does not answer: ${agent.complaints}`, { cause });
    });
    return agent;
  }

  /** Gives the work an agent of its own. */
  static async alone(wrapper: string[], work: (own: Agent) => Promise<void>): Promise<void> {
    const own = await Agent.start(wrapper);
    try {
      await work(own);
    } finally {
      await own.end();
    }
  }

  readonly dial: Dial = (): AgentSocket => {
    const socket = connect(this.port, "127.0.0.1");
    socket.setNoDelay(true);
    this.socket = socket;
    const opened = once(socket, "connect");
    const readable = Readable.toWeb(socket) as ReadableStream<Uint8Array>;
    const done = (resolve: () => void, reject: (cause: Error) => void) => (error?: Error | null) =>
      error ? reject(error) : resolve();
    const writable = new WritableStream<Uint8Array>({
      write: (bytes) => new Promise((resolve, reject) => socket.write(bytes, done(resolve, reject))),
      close: () => new Promise((resolve) => socket.end(resolve)),
      abort: () => void socket.destroy(),
    });
    return { readable, writable, opened, close: async () => void socket.destroy() };
  };

  async answers(): Promise<boolean> {
    try {
      const connection = await AgentConnection.open(this, "T", list("1"));
      await connection.answer("t");
      connection.close();
      return true;
    } catch {
      return false;
    }
  }

  /** Sends bytes as they are. The answer is all that comes back until the agent ends the connection. */
  async says(...parts: Uint8Array[]): Promise<Buffer> {
    const socket = connect(this.port, "127.0.0.1");
    const received: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => received.push(chunk));
    socket.on("error", () => undefined);
    const closed = new Promise((done) => socket.once("close", done));
    for (const part of parts) socket.write(part);
    await Promise.race([closed, sleep(8_000).then(() => Promise.reject(new Error("it does not hang up")))]);
    return Buffer.concat(received);
  }

  hello(): Uint8Array {
    return frame("H", new TextEncoder().encode(this.token));
  }

  start(command: string[], more: Partial<ExecSpec> & { acknowledges?: boolean } = {}): Promise<Client> {
    const { acknowledges = true, ...spec } = more;
    const whole = { process_id: newId("process"), command, env: {}, ...spec };
    return Client.open(this, "X", startFrame(whole), { acknowledges, from: { stdout: 0, stderr: 0 } });
  }

  attach(processId: string, from: Record<OutputStream, number>, acknowledges = true): Promise<Client> {
    const payload = list(processId, String(from.stdout), String(from.stderr));
    return Client.open(this, "A", payload, { acknowledges, from });
  }

  /** Runs one to its end. */
  async exec(command: string[], more: Partial<ExecSpec> = {}): Promise<Result> {
    const client = await this.start(command, more);
    const end = await client.end();
    return { ...end, stdout: String(client.output("stdout")), stderr: String(client.output("stderr")) };
  }

  /** The processes that it has started and that are still there, zombies too. */
  children(): number[] {
    return childrenOf(this.child.pid!);
  }

  /** Ends it and all that it has started. */
  async end(): Promise<void> {
    for (const pid of this.children()) kill(-pid);
    this.child.kill("SIGKILL");
    await this.exited;
  }
}

export function childrenOf(pid: number): number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  } catch {
    return [];
  }
}

export function kill(pid: number, signal: NodeJS.Signals = "SIGKILL"): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It has ended.
  }
}

/** How a process ended, as the agent says it: the two halves of a wait status. */
export interface End {
  code: number;
  signal: number;
}

export interface Result extends End {
  stdout: string;
  stderr: string;
}

/** One connection to a process of the agent. It listens from its beginning on. */
export class Client {
  readonly #connection: AgentConnection;
  readonly #socket: Socket;
  readonly #chunks: Record<OutputStream, Buffer[]> = { stdout: [], stderr: [] };
  readonly #listening: Promise<void>;
  /** Where the output that it holds ends. */
  readonly at: Record<OutputStream, number>;
  readonly stdin: { taken: number; isOpen: boolean }[] = [];
  acknowledges: boolean;
  pid = 0;
  received = 0;
  isOpen = false;
  failure = "";
  /** The code and the detail of a refusal. */
  refusal: string[] | undefined;
  /** Undefined until it is told. */
  exit: End | undefined;
  isClosed = false;

  static async open(
    agent: Agent,
    type: string,
    payload: Uint8Array,
    options: { acknowledges: boolean; from: Record<OutputStream, number> },
  ): Promise<Client> {
    const connection = await AgentConnection.open(agent, type, payload);
    return new Client(connection, agent.socket, options);
  }

  private constructor(
    connection: AgentConnection,
    socket: Socket,
    { acknowledges, from }: { acknowledges: boolean; from: Record<OutputStream, number> },
  ) {
    this.#connection = connection;
    this.#socket = socket;
    this.acknowledges = acknowledges;
    this.at = { ...from };
    this.#listening = this.#listen().finally(() => (this.isClosed = true));
  }

  output(stream: OutputStream): Buffer {
    return Buffer.concat(this.#chunks[stream]);
  }

  /** The end, which the agent then forgets; it comes within the test's time or never. */
  async end(): Promise<End> {
    await until(() => this.exit !== undefined || this.isClosed, 30_000);
    if (!this.exit) throw new Error(`The connection ended before the process: ${this.refusal?.join(" ") ?? ""}`);
    this.send("D");
    await this.closed();
    return this.exit;
  }

  /** Done when the agent has hung up. */
  async closed(): Promise<void> {
    await this.#listening;
    this.#connection.close();
  }

  send(type: string, payload?: Uint8Array): void {
    this.#connection.tell(frame(type, payload));
  }

  type(text: string): void {
    this.send("I", new TextEncoder().encode(text));
  }

  signal(name: keyof typeof SIGNALS): void {
    this.send("S", Uint8Array.of(SIGNALS[name]));
  }

  resize(rows: number, cols: number): void {
    this.send("Z", Uint8Array.of(rows >> 8, rows, cols >> 8, cols));
  }

  acknowledge(at = this.at): void {
    this.send("a", numbers(at.stdout, at.stderr));
  }

  shows(text: string): Promise<void> {
    return until(() => this.output("stdout").includes(text));
  }

  /** Breaks the connection off, without a word. */
  cut(): Promise<void> {
    this.#socket.resetAndDestroy();
    return this.#listening;
  }

  async #listen(): Promise<void> {
    for (let next = await this.#connection.next(); next; next = await this.#connection.next()) {
      this.#hear(next.type, next.payload);
    }
  }

  #hear(type: string, payload: Uint8Array): void {
    const number = () => numberAt(payload, 0);
    if (type === "r") {
      this.pid = viewOf(payload).getUint32(0);
      this.received = numberAt(payload, 4);
      this.isOpen = payload[12] === 1;
      this.failure = stringsOf(payload.subarray(13))[0]!;
    } else if (type === "o" || type === "e") {
      const stream = OUTPUT_STREAMS[type === "o" ? 0 : 1];
      if (number() !== this.at[stream]) throw new Error(`${stream} goes on at ${number()}, not ${this.at[stream]}`);
      this.#chunks[stream].push(Buffer.from(payload.subarray(8)));
      this.at[stream] += payload.length - 8;
      if (this.acknowledges) this.acknowledge();
    } else if (type === "i") {
      this.stdin.push({ taken: number(), isOpen: payload[8] === 1 });
    } else if (type === "x") {
      const status = viewOf(payload).getUint32(0);
      this.exit = { code: status >> 8, signal: status & 0x7f };
    } else if (type === "f") {
      this.refusal = stringsOf(payload);
    } else {
      throw new Error(`a frame ${type}`);
    }
  }
}
