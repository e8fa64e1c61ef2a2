import { ApiError, ERRORS, type ErrorCode } from "../../../contract/errors.ts";
import { frame, FrameReader, nonsense, stringsOf, type Frame } from "./frames.ts";

/** A TCP connection into the container. */
export interface AgentSocket {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
  readonly opened: Promise<unknown>;
  close(): Promise<void>;
}

/** Opens a connection to the agent's port. */
export type Dial = () => AgentSocket;

/** A way to the agent of one container. */
export interface AgentAddress {
  dial: Dial;
  token: string;
}

/** A frame that belongs to a call is waited for so long. */
const ANSWER_MS = 30_000;

/** One connection to the agent. It may break at any time, and what comes on it may be anything. */
export class AgentConnection {
  readonly #socket: AgentSocket;
  readonly #frames: FrameReader;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #isClosed = false;

  private constructor(socket: AgentSocket) {
    this.#socket = socket;
    this.#frames = new FrameReader(socket.readable);
    this.#writer = socket.writable.getWriter();
    this.#writer.closed.catch(() => undefined);
  }

  /** Connects and says what it is for. Throws `backend_unavailable` when nobody listens. */
  static async open(
    { dial, token }: AgentAddress,
    type: string,
    payload: Uint8Array,
    timeoutMs = ANSWER_MS,
  ): Promise<AgentConnection> {
    const socket = dial();
    const connection = new AgentConnection(socket);
    try {
      const said = connection.send(frame("H", new TextEncoder().encode(token)), frame(type, payload));
      await withTimeLimit(Promise.all([socket.opened, said]), timeoutMs);
      return connection;
    } catch (cause) {
      connection.close();
      throw cause instanceof ApiError ? cause : unreachable(cause);
    }
  }

  /** The next frame; undefined once the connection is at its end, for whatever reason. */
  async next(): Promise<Frame | undefined> {
    try {
      return await this.#frames.next();
    } catch (error) {
      if (error instanceof ApiError) console.error("A sandbox's agent is cut off.", error);
      this.close();
      return undefined;
    }
  }

  /** The next frame, which must be of this type. Throws what the agent refuses with. */
  async answer(type: string, timeoutMs?: number): Promise<Frame> {
    return withTimeLimit(this.answerAtLast(type), timeoutMs).catch((error: unknown) => {
      this.close();
      throw error;
    });
  }

  /** The same, however long it takes. */
  async answerAtLast(type: string): Promise<Frame> {
    const answer = await this.next();
    if (!answer) throw unreachable();
    if (answer.type === "f") throw refusalOf(answer.payload);
    if (answer.type !== type) throw nonsense();
    return answer;
  }

  /** Done when the frames are on their way. Throws when the connection is no more. */
  async send(...frames: Uint8Array[]): Promise<void> {
    for (const one of frames) await this.#writer.write(one);
  }

  /** The same, where it does not matter whether they arrive. */
  tell(one: Uint8Array): void {
    this.#writer.write(one).catch(() => undefined);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // Its end is what tells the agent: a connection that is only dropped stays open there.
    void this.#writer
      .close()
      .catch(() => undefined)
      .then(() => this.#frames.close())
      .then(() => this.#socket.close())
      .catch(() => undefined);
  }
}

function refusalOf(payload: Uint8Array): ApiError {
  const [code = "", detail = ""] = stringsOf(payload);
  if (code === "range_not_satisfiable") return new ApiError(code, { extra: { size: Number(detail) || 0 } });
  if (!Object.hasOwn(ERRORS, code) || code === "internal") {
    return new ApiError("backend_unavailable", {
      detail: `The sandbox's agent failed: ${code} ${detail}`.slice(0, 500),
    });
  }
  return new ApiError(code as ErrorCode, detail === "" ? {} : { detail: detail.slice(0, 500) });
}

export function unreachable(cause?: unknown): ApiError {
  return new ApiError("backend_unavailable", {
    detail: "The sandbox's container does not answer.",
    retryAfter: 1,
    ...(cause !== undefined && { cause }),
  });
}

/** What the agent does at once. Throws `backend_unavailable` when it takes too long all the same. */
export async function withTimeLimit<T>(work: Promise<T>, timeoutMs = ANSWER_MS): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unreachable(new Error("the agent takes too long"))), timeoutMs);
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}
