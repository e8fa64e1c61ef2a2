import { runInDurableObject } from "cloudflare:test";
import type { AgentAddress, AgentSocket } from "../../src/backends/cloudflare/agent/connection.ts";
import {
  frame,
  list,
  numberAt,
  numbers,
  stringsOf,
  viewOf,
  type Frame,
} from "../../src/backends/cloudflare/agent/frames.ts";
import { keepWithinBudget, MAX_OUTPUT_BYTES } from "../../src/backends/cloudflare/output-budget.ts";
import { CloudflareProcesses } from "../../src/backends/cloudflare/processes.ts";
import type { CloudflareProcess } from "../../src/backends/cloudflare/process.ts";
import { CloudflareStore } from "../../src/backends/cloudflare/store.ts";
import type { ExecSpec } from "../../src/contract/host-protocol.ts";
import { asApiError } from "../../src/contract/errors.ts";
import { newId } from "../../src/contract/ids.ts";
import { LogReader } from "../../src/process/log-reader.ts";
import { objectOf } from "./sandboxes.ts";

export const encode = (text: string) => new TextEncoder().encode(text);

/** An agent that says, on each connection that the object makes, what the test wants it to. */
export class LyingAgent implements AgentAddress {
  readonly token = "the token";
  readonly connections: LyingConnection[] = [];
  /** Takes in nothing of what it is told. */
  isDeaf = false;
  /** Nobody listens. */
  isAway = false;
  #taken = 0;

  readonly dial = (): AgentSocket => {
    const connection = new LyingConnection(this.isDeaf, this.isAway);
    if (!this.isAway) this.connections.push(connection);
    return connection.socket;
  };

  /** The next connection that the object makes. */
  async next(): Promise<LyingConnection> {
    await until(() => this.connections.length > this.#taken, "another connection");
    return this.connections[this.#taken++]!;
  }

  /** The next connection, once it has said this after the token. */
  async greeted(type: string): Promise<LyingConnection & { words: string[] }> {
    const connection = await this.next();
    const { payload } = await connection.hears(type);
    return Object.assign(connection, { words: stringsOf(payload) });
  }

  end(): void {
    this.isAway = true;
    for (const connection of this.connections) connection.hangUp();
  }
}

export class LyingConnection {
  readonly socket: AgentSocket;
  /** What the object has said so far. */
  readonly heard: Frame[] = [];
  /** The object has ended it. */
  isClosed = false;
  /** Bytes that the object wants to say and that are not taken. */
  unheardBytes = 0;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #taken = 0;

  constructor(isDeaf: boolean, isAway: boolean) {
    const toObject = new IdentityTransformStream();
    this.#writer = toObject.writable.getWriter();
    const fromObject = isDeaf ? this.#unheard() : new IdentityTransformStream();
    this.socket = {
      readable: toObject.readable,
      writable: fromObject.writable,
      opened: isAway ? Promise.reject(new Error("nobody listens")) : Promise.resolve(),
      close: async () => void (this.isClosed = true),
    };
    this.socket.opened.catch(() => undefined);
    if (fromObject.readable) void this.#listen(fromObject.readable).catch(() => undefined);
  }

  /** False when the object has hung up. */
  async say(type: string, payload?: Uint8Array): Promise<boolean> {
    return this.sayBytes(frame(type, payload));
  }

  async sayBytes(bytes: Uint8Array): Promise<boolean> {
    return this.#writer.write(bytes).then(
      () => true,
      () => false,
    );
  }

  /** That the process runs. */
  started({ received = 0, isOpen = false, note = "" } = {}): Promise<boolean> {
    return this.say("r", startedPayload(received, isOpen, note));
  }

  out(offset: number, bytes: Uint8Array | string, type = "o"): Promise<boolean> {
    return this.say(type, outputPayload(offset, typeof bytes === "string" ? encode(bytes) : bytes));
  }

  exits(code: number): Promise<boolean> {
    return this.say("x", exitPayload(code << 8));
  }

  refuses(code: string, detail: string): Promise<boolean> {
    return this.say("f", list(code, detail));
  }

  hangUp(): void {
    this.#writer.close().catch(() => undefined);
  }

  /** The next frame of this type that the object has said. */
  async hears(type: string): Promise<Frame> {
    const rest = () => this.heard.slice(this.#taken).findIndex((one) => one.type === type);
    await until(() => rest() >= 0, `a frame ${type}`);
    this.#taken += rest() + 1;
    return this.heard[this.#taken - 1]!;
  }

  /** The last offsets that the object has told to be stored. */
  get acknowledged(): [number, number] {
    const last = this.heard.findLast(({ type }) => type === "a");
    return last ? [numberAt(last.payload, 0), numberAt(last.payload, 8)] : [0, 0];
  }

  async #listen(readable: ReadableStream<Uint8Array>): Promise<void> {
    let held = new Uint8Array(0);
    for await (const chunk of readable) {
      const bytes = new Uint8Array(held.length + chunk.length);
      bytes.set(held);
      bytes.set(chunk, held.length);
      held = bytes;
      while (held.length >= 5 && held.length >= 5 + viewOf(held).getUint32(1)) {
        const end = 5 + viewOf(held).getUint32(1);
        this.heard.push({ type: String.fromCharCode(held[0]!), payload: held.slice(5, end) });
        held = held.slice(end);
      }
    }
  }

  /** Takes the start in, and then no more. */
  #unheard(): { writable: WritableStream<Uint8Array>; readable?: undefined } {
    let taken = 0;
    const writable = new WritableStream<Uint8Array>(
      {
        write: (bytes) => {
          this.unheardBytes -= bytes.length;
          if (++taken > 2) return new Promise<void>(() => {});
          this.heard.push({ type: String.fromCharCode(bytes[0]!), payload: bytes.slice(5) });
          return undefined;
        },
      },
      {
        highWaterMark: 1,
        size: (bytes) => {
          this.unheardBytes += bytes.length;
          return 1;
        },
      },
    );
    return { writable };
  }
}

export function startedPayload(received = 0, isOpen = false, note = ""): Uint8Array {
  const words = list("", note);
  const payload = new Uint8Array(13 + words.length);
  payload.set(words, 13);
  viewOf(payload).setUint32(0, 4321);
  payload.set(numbers(received), 4);
  payload[12] = isOpen ? 1 : 0;
  return payload;
}

export function outputPayload(offset: number | bigint, bytes: Uint8Array): Uint8Array {
  const payload = new Uint8Array(8 + bytes.length);
  viewOf(payload).setBigUint64(0, BigInt(offset));
  payload.set(bytes, 8);
  return payload;
}

export function exitPayload(status: number, oom = 0): Uint8Array {
  const payload = new Uint8Array(6);
  viewOf(payload).setUint32(0, status);
  payload[4] = oom;
  return payload;
}

/** The client side in an object of its own, on its real storage. */
export interface Lab {
  agent: LyingAgent;
  storage: DurableObjectStorage;
  store: CloudflareStore;
  processes: CloudflareProcesses;
  /** Of another life of the object, on the same storage. */
  reopen(): CloudflareProcesses;
  /** A process that the agent has said to run, and its connection. */
  start(spec?: Partial<ExecSpec>, isOpen?: boolean): Promise<[CloudflareProcess, LyingConnection]>;
}

export async function withLab(work: (lab: Lab) => Promise<void>): Promise<void> {
  await runInDurableObject(objectOf(newId("sandbox")), async (_, { storage }) => {
    const agent = new LyingAgent();
    const kept: Promise<unknown>[] = [];
    let isRunning = true;
    const open = () => {
      const store = new CloudflareStore(storage);
      const surroundings = {
        store,
        agent: () => agent,
        isRunning: () => isRunning,
        endedBecause: () => "host_lost" as const,
        stored: () => keepWithinBudget(store, processes, MAX_OUTPUT_BYTES),
      };
      const processes: CloudflareProcesses = new CloudflareProcesses(
        surroundings,
        (run) => kept.push(run),
        async () => undefined,
      );
      return { store, processes };
    };
    const { store, processes } = open();
    const start = async (spec: Partial<ExecSpec> = {}, isOpen = false) => {
      const starting = processes.start(execSpec(spec));
      const connection = await agent.greeted("X");
      await connection.started({ isOpen });
      return [(await starting).process, connection] as [CloudflareProcess, LyingConnection];
    };
    try {
      await work({ agent, storage, store, processes, start, reopen: () => open().processes });
    } finally {
      isRunning = false;
      agent.end();
      // What keeps an object awake has an end, whatever the agent does.
      await within(Promise.all(kept), 8_000, "the work that keeps the object awake");
    }
  });
}

export const execSpec = (more: Partial<ExecSpec> = {}): ExecSpec => ({
  process_id: newId("process"),
  command: ["cat"],
  env: {},
  ...more,
});

/** All that is kept of an output, from this offset on. */
export async function bytesOf(process: CloudflareProcess, stream: "stdout" | "stderr", from = 0): Promise<Uint8Array> {
  const reader: LogReader = process.logs[stream].read(from, false);
  const parts: Uint8Array[] = [];
  for (let next = await reader.next(); next; next = await reader.next()) parts.push(next.slice());
  reader.close();
  return new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

/** What a call throws; undefined when it does not. */
export const errorOf = (call: Promise<unknown>) =>
  call.then(
    () => undefined,
    (error: unknown) => asApiError(error),
  );

export const codeOf = async (call: Promise<unknown>) => (await errorOf(call))?.code ?? "no error";

export const textOf = async (process: CloudflareProcess, stream: "stdout" | "stderr" = "stdout") =>
  new TextDecoder().decode(await bytesOf(process, stream));

export async function until(holds: () => boolean, what = "it", limitMs = 5_000): Promise<void> {
  for (const giveUpAt = Date.now() + limitMs; !holds();) {
    if (Date.now() > giveUpAt) throw new Error(`${what} did not come`);
    await new Promise((wake) => setTimeout(wake, 5));
  }
}

export async function within<T>(work: Promise<T>, ms: number, what = "it"): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} does not end`)), ms);
  });
  return Promise.race([work, over]).finally(() => clearTimeout(timer));
}
