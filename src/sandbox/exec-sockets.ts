import { CHANNEL, channelMessage, CLOSE, type AttachStatus } from "../contract/attach.ts";
import { ApiError, asApiError } from "../contract/errors.ts";
import { invalidRequest } from "../contract/invalid-request.ts";
import { MAX_JSON_BYTES, refuseProtoKeys } from "../contract/json.ts";
import { toProblem } from "../contract/problem.ts";
import { ExecRequestSchema, type ExecRequest } from "../contract/process.ts";
import { newAttachmentId, type Attachments } from "./attachments.ts";
import type { Bridge } from "./bridge.ts";
import type { Processes } from "./processes.ts";
import { close, sendTo, type ClientState, type Sockets } from "./sockets.ts";
import type { Timers } from "./timers.ts";

/** How long a client may take to say what to run. */
const FIRST_MESSAGE_MS = 30_000;
/** How much a client may send while its process starts. */
const MAX_QUEUED_BYTES = 1_048_576;

const NO_REQUEST = { detail: "No request came: the first message says what to run." };

interface Queue {
  messages: (ArrayBuffer | string)[];
  bytes: number;
}

/** Exec over one socket: its first message says what to run, then it is as attached. */
export class ExecSockets {
  readonly #sockets: Sockets;
  readonly #bridge: Bridge;
  readonly #attachments: Attachments;
  readonly #processes: Processes;
  readonly #timers: Timers;
  readonly #now: () => number;
  /** What clients sent ahead, by attachment. A start under way keeps the object awake. */
  readonly #queues = new Map<string, Queue>();

  constructor(
    sockets: Sockets,
    bridge: Bridge,
    attachments: Attachments,
    processes: Processes,
    timers: Timers,
    now: () => number,
  ) {
    this.#sockets = sockets;
    this.#bridge = bridge;
    this.#attachments = attachments;
    this.#processes = processes;
    this.#timers = timers;
    this.#now = now;
  }

  open(acks: boolean): Response {
    const answerBy = this.#now() + FIRST_MESSAGE_MS;
    const webSocket = this.#sockets.accept(newAttachmentId(), { role: "client", phase: "request", answerBy, acks });
    this.#timers.set("sockets", Math.min(answerBy, this.#timers.dueAt("sockets") ?? Infinity));
    return new Response(null, { status: 101, webSocket });
  }

  /** The first message. `run` runs the start as an operation of the sandbox. */
  async first(
    socket: WebSocket,
    { acks }: Extract<ClientState, { phase: "request" }>,
    message: ArrayBuffer | string,
    run: <T>(operation: () => Promise<T>) => Promise<T>,
  ): Promise<void> {
    const attachmentId = this.#sockets.attachmentOf(socket);
    this.#sockets.setState(socket, { role: "client", phase: "starting" });
    this.#queues.set(attachmentId, { messages: [], bytes: 0 });
    try {
      const processId = await this.#startProcess(socket, message, run);
      if (processId !== undefined) await this.#connect(socket, attachmentId, processId, acks, run);
    } finally {
      this.#queues.delete(attachmentId);
    }
  }

  /** A message that comes while the process starts. */
  early(socket: WebSocket, message: ArrayBuffer | string): void {
    const queue = this.#queues.get(this.#sockets.attachmentOf(socket));
    // The object that was starting it is gone, and with it what it had been sent.
    if (!queue) return close(socket, CLOSE.hostAway, "resume");
    queue.bytes += typeof message === "string" ? message.length : message.byteLength;
    if (queue.bytes > MAX_QUEUED_BYTES) return close(socket, CLOSE.stdinBacklog, "the process has not started");
    queue.messages.push(message);
  }

  /**
   * Closes the sockets that were opened and left so, and those whose start went down with the object that was at it. Answers
   * when the next look is due.
   */
  closeSilent(): number | undefined {
    const now = this.#now();
    let next = Infinity;
    for (const { socket, state } of this.#sockets.clients()) {
      if (state.phase === "request" && state.answerBy <= now)
        refuse(socket, new ApiError("invalid_request", NO_REQUEST));
      else if (state.phase === "request") next = Math.min(next, state.answerBy);
      else if (state.phase === "starting" && this.#queues.has(this.#sockets.attachmentOf(socket)))
        next = Math.min(next, now + FIRST_MESSAGE_MS);
      else if (state.phase === "starting") close(socket, CLOSE.hostAway, "resume");
    }
    return Number.isFinite(next) ? next : undefined;
  }

  /** Starts what the message asks for. Undefined when that was refused, which the client has then been told. */
  async #startProcess(
    socket: WebSocket,
    message: ArrayBuffer | string,
    run: <T>(operation: () => Promise<T>) => Promise<T>,
  ): Promise<string | undefined> {
    try {
      const request = readRequest(message);
      const { process } = await run(() => this.#processes.exec(request, { isFollowed: true }));
      sendTo(socket, JSON.stringify(process));
      return process.process_id;
    } catch (error) {
      const known = asApiError(error);
      if (!known) console.error("An exec over a socket failed.", error);
      refuse(socket, known ?? new ApiError("internal"));
      return undefined;
    }
  }

  /** From here on the process runs, whatever becomes of the socket. */
  async #connect(
    socket: WebSocket,
    attachmentId: string,
    processId: string,
    acks: boolean,
    run: <T>(operation: () => Promise<T>) => Promise<T>,
  ): Promise<void> {
    if (!this.#sockets.find(attachmentId, "client")) return;
    try {
      const from = { processId, stdoutOffset: 0, stderrOffset: 0, acks };
      await run(() => this.#attachments.connect(attachmentId, from));
    } catch (error) {
      console.error(`The socket of ${processId} could not be connected.`, error);
      return close(socket, CLOSE.hostAway, "resume");
    }
    this.#sockets.setState(socket, { role: "client", phase: "attached", processId });
    this.#attachments.start(attachmentId);
    for (const early of this.#queues.get(attachmentId)?.messages ?? []) this.#bridge.fromClient(socket, early);
    // The client may have gone while the host dialled.
    if (!this.#sockets.find(attachmentId, "client")) this.#bridge.gone(socket);
  }
}

function readRequest(message: ArrayBuffer | string): ExecRequest {
  if (typeof message !== "string") {
    throw new ApiError("invalid_request", { detail: "The first message must be text: the ExecRequest as JSON." });
  }
  if (message.length > MAX_JSON_BYTES || new TextEncoder().encode(message).length > MAX_JSON_BYTES) {
    throw new ApiError("payload_too_large", { detail: `The request is at most ${MAX_JSON_BYTES} bytes long.` });
  }
  refuseProtoKeys(message);
  let json: unknown;
  try {
    json = JSON.parse(message);
  } catch (cause) {
    throw new ApiError("invalid_request", { detail: "The first message is not JSON.", cause });
  }
  const parsed = ExecRequestSchema.safeParse(json);
  if (!parsed.success) throw invalidRequest(parsed.error, "first message");
  return parsed.data;
}

/** Tells the client why nothing runs, and closes. */
export function refuse(socket: WebSocket, error: ApiError): void {
  const status: AttachStatus = {
    metadata: {},
    status: "Failure",
    message: error.message,
    reason: error.code,
    problem: toProblem(error),
  };
  sendTo(socket, channelMessage(CHANNEL.status, JSON.stringify(status)));
  close(socket, CLOSE.refused, error.code);
}
