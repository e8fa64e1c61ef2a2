import {
  ACK_WINDOW_BYTES,
  AckSchema,
  CHANNEL,
  channelMessage,
  CLOSE,
  ResizeMessageSchema,
  SILENT_LIMIT_BYTES,
  START,
  statusOfEnd,
  STDIN_BACKLOG_BYTES,
  type AttachSpec,
  type HostClose,
} from "../contract/attach.ts";
import { hasCode } from "../contract/errors.ts";
import { formatCursor, type Cursor } from "../contract/events.ts";
import { OUTPUT_STREAMS, type StdinState } from "../contract/process.ts";
import type { AttachmentSocket } from "./attachment-socket.ts";
import type { ObservedProcess } from "./observed-process.ts";
import { exitEvent, MergedOutput } from "./process-events.ts";

/** Of one message to the client. */
const MESSAGE_BYTES = 64 * 1024;
/** What all sockets of a sandbox may have been sent without a sign of their clients: its object keeps it in memory. */
const SHARE_BYTES = 2 * SILENT_LIMIT_BYTES;

/** What one message that waits for the process costs besides its bytes. */
const MESSAGE_COST_BYTES = 256;
/** What may wait for all processes of a sandbox, where nothing else is said. */
const INPUT_SHARE_BYTES = 4 * STDIN_BACKLOG_BYTES;
/** How often it is looked at whether others of the sandbox have taken what they were sent. */
const SHARE_POLL_MS = 50;

const decoder = new TextDecoder();

/** What the clients of one sandbox have under way together. */
export interface SandboxShare {
  /** Output that they have not shown to have taken. */
  unacknowledged: number;
  /** Input that waits for processes, also of clients that have gone. */
  waitingInput: number;
  /** How much of that there may be. */
  maxWaitingInput?: number;
}

/** A client attached to a process, as the process's side sees it: through the socket to the sandbox's object. */
export class Attachment {
  readonly #socket: AttachmentSocket;
  readonly #process: ObservedProcess;
  readonly #spec: AttachSpec;
  readonly #share: SandboxShare;
  /** Offsets behind what was sent, and what was acknowledged. */
  readonly #sent: Cursor;
  readonly #acked: Cursor;
  #output: MergedOutput | undefined;
  /** Sent since the client was last heard of; with acks: since what it last acknowledged. */
  #unacknowledged = 0;
  #wake: (() => void) | undefined;
  #waitingInput = 0;
  /** What waits for the process, by the batch that it will be given in. */
  readonly #batches = new Map<Promise<StdinState>, number>();
  #isOver = false;

  constructor(socket: AttachmentSocket, process: ObservedProcess, spec: AttachSpec, share: SandboxShare) {
    this.#socket = socket;
    this.#process = process;
    this.#spec = spec;
    this.#share = share;
    this.#sent = { stdout: spec.stdout_offset, stderr: spec.stderr_offset };
    this.#acked = { ...this.#sent };
  }

  listen(): void {
    this.#socket.onMessage((message) => {
      if (typeof message !== "string") this.#receive(message);
      else if (message === START) void this.#send();
    });
    this.#socket.onClose(() => this.#end(true));
  }

  /** Sends the output from the offsets, then how the process ended. */
  async #send(): Promise<void> {
    try {
      this.#output = new MergedOutput(this.#process, this.#sent);
      for (let chunk = await this.#output.next(); chunk; chunk = await this.#output.next()) {
        for (let at = 0; at < chunk.bytes.length; at += MESSAGE_BYTES) {
          const part = chunk.bytes.subarray(at, at + MESSAGE_BYTES);
          if (!(await this.#maySend(part.length))) return;
          this.#sent[chunk.stream] += part.length;
          await this.#socket.send(channelMessage(CHANNEL[chunk.stream], part));
        }
      }
      if (this.#isOver) return;
      await this.#process.ended;
      await this.#socket.send(channelMessage(CHANNEL.status, JSON.stringify(statusOfEnd(exitEvent(this.#process)))));
      this.#close(CLOSE.done, "");
    } catch (error) {
      if (hasCode(error, "output_expired")) this.#close(CLOSE.outputExpired, "the output is no longer kept");
      else {
        console.error("sandbar: an attached client is cut:", error);
        this.#socket.terminate();
      }
    }
  }

  /** Waits until so much more may be on its way. False when the socket is over. */
  async #maySend(bytes: number): Promise<boolean> {
    if (this.#spec.acks) {
      while (!this.#isOver && this.#unacknowledged > 0 && this.#isFull(bytes)) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          if (this.#share.unacknowledged + bytes > SHARE_BYTES) setTimeout(resolve, SHARE_POLL_MS);
        });
      }
    } else if (this.#unacknowledged + bytes > SILENT_LIMIT_BYTES || this.#share.unacknowledged + bytes > SHARE_BYTES) {
      this.#close(CLOSE.unacknowledged, `resume at ${formatCursor(this.#sent)}`);
    }
    if (this.#isOver) return false;
    this.#count(bytes);
    return true;
  }

  #isFull(bytes: number): boolean {
    return this.#unacknowledged + bytes > ACK_WINDOW_BYTES || this.#share.unacknowledged + bytes > SHARE_BYTES;
  }

  #count(bytes: number): void {
    this.#unacknowledged += bytes;
    this.#share.unacknowledged += bytes;
  }

  #receive(message: Uint8Array): void {
    if (!this.#spec.acks) this.#count(-this.#unacknowledged);
    const payload = message.subarray(1);
    switch (message[0]) {
      case CHANNEL.stdin:
        return this.#giveInput(payload);
      case CHANNEL.resize:
        return this.#resize(payload);
      case CHANNEL.ack:
        return this.#acknowledge(payload);
      case CHANNEL.close:
        if (payload[0] === CHANNEL.stdin) void this.#process.input?.write(none(), { eof: true }).catch(() => {});
        return;
      // What else there may be in a later version of the protocol means nothing here.
    }
  }

  /** A process that does not read lets it wait, up to a bound, also when the client is gone. */
  #giveInput(bytes: Uint8Array): void {
    const { input } = this.#process;
    if (!input || bytes.length === 0) return;
    const cost = bytes.length + MESSAGE_COST_BYTES;
    const isTooMuch = this.#waitingInput + cost > STDIN_BACKLOG_BYTES;
    if (isTooMuch || this.#share.waitingInput + cost > (this.#share.maxWaitingInput ?? INPUT_SHARE_BYTES)) {
      return this.#close(CLOSE.stdinBacklog, "the process does not read its input");
    }
    this.#countInput(cost);
    const given = input.offer(bytes);
    const before = this.#batches.get(given);
    this.#batches.set(given, (before ?? 0) + cost);
    if (before !== undefined) return;
    // Nobody reads the input of a process that has ended, or has closed it: as with a pipe, that is no news to who types.
    void given
      .catch(() => undefined)
      .then((state) => {
        this.#countInput(-this.#batches.get(given)!);
        this.#batches.delete(given);
        if (state && this.#spec.acks && !this.#isOver) {
          void this.#socket.send(channelMessage(CHANNEL.ack, JSON.stringify({ stdin: state.offset })));
        }
      });
  }

  #countInput(cost: number): void {
    this.#waitingInput += cost;
    this.#share.waitingInput += cost;
  }

  #resize(payload: Uint8Array): void {
    const size = ResizeMessageSchema.safeParse(parse(payload)).data;
    if (size) void this.#process.resize?.({ rows: size.Height, cols: size.Width }).catch(() => {});
  }

  #acknowledge(payload: Uint8Array): void {
    const ack = AckSchema.safeParse(parse(payload)).data;
    if (!ack) return;
    let freed = 0;
    for (const stream of OUTPUT_STREAMS) {
      const offset = Math.min(ack[stream] ?? 0, this.#sent[stream]);
      if (offset <= this.#acked[stream]) continue;
      freed += offset - this.#acked[stream];
      this.#acked[stream] = offset;
    }
    this.#count(-Math.min(freed, this.#unacknowledged));
    this.#wake?.();
  }

  /** Has the client's socket closed. */
  #close(code: number, reason: string): void {
    if (this.#isOver) return;
    const close: HostClose = { close: { code, reason } };
    void this.#socket.send(JSON.stringify(close)).then(() => this.#socket.close());
    this.#end(code !== CLOSE.done);
  }

  #end(isCut: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#share.unacknowledged -= this.#unacknowledged;
    this.#output?.close(isCut);
    this.#wake?.();
  }
}

/** Undefined where it is no JSON. */
function parse(payload: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(payload));
  } catch {
    return undefined;
  }
}

async function* none(): AsyncIterable<Uint8Array> {}
