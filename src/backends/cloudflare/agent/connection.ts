import { ApiError, type ErrorCode } from "../../../contract/errors.ts";
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
/** How long what was said before the end may take to leave. */
const LAST_WORDS_MS = 2_000;
const MAX_DETAIL_CHARACTERS = 500;
const WE_SAY = "The sandbox's agent failed: ";

/** One connection to the agent. It may break at any time, and what comes on it may be anything. */
export class AgentConnection {
  readonly #socket: AgentSocket;
  readonly #frames: FrameReader;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  #isClosed = false;
  /** What `tellLatest` has waiting, behind what is on its way. */
  #latest: Uint8Array | undefined;
  #isTellingLatest = false;

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

  /** The next frame, which must be of this type (or one of these). Throws what the agent refuses with, of these codes: no other is its to say. */
  async answer(type: string, codes: readonly ErrorCode[] = [], timeoutMs?: number): Promise<Frame> {
    return withTimeLimit(this.answerAtLast(type, codes), timeoutMs).catch((error: unknown) => {
      this.close();
      throw error;
    });
  }

  /** The same, however long it takes. */
  async answerAtLast(type: string, codes: readonly ErrorCode[] = []): Promise<Frame> {
    const answer = await this.next();
    if (!answer) throw unreachable();
    if (answer.type === "f") throw refusalOf(answer.payload, codes);
    if (!type.includes(answer.type)) throw nonsense();
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

  /** The same for what the next of its kind makes obsolete: only the last one waits for an agent that does not listen. */
  tellLatest(one: Uint8Array): void {
    this.#latest = one;
    if (this.#isTellingLatest) return;
    this.#isTellingLatest = true;
    void this.#tellLatest().catch(() => undefined);
  }

  async #tellLatest(): Promise<void> {
    for (let one = this.#latest; one; one = this.#latest) {
      this.#latest = undefined;
      await this.#writer.write(one);
    }
    this.#isTellingLatest = false;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    void this.#end().catch(() => undefined);
  }

  /** Its end is what tells the agent: a connection that is only dropped stays open there. One that reads nothing is dropped. */
  async #end(): Promise<void> {
    try {
      await withTimeLimit(this.#writer.close(), LAST_WORDS_MS);
    } catch (cause) {
      void this.#writer.abort(cause).catch(() => undefined);
    } finally {
      await this.#frames.close();
      await this.#socket.close();
    }
  }
}

function refusalOf(payload: Uint8Array, codes: readonly ErrorCode[]): ApiError {
  const [said = "", text = ""] = stringsOf(payload);
  const detail = text.slice(0, MAX_DETAIL_CHARACTERS - WE_SAY.length);
  const code = codes.find((one) => one === said);
  if (code === "range_not_satisfiable") return new ApiError(code, { extra: { size: sizeOf(text) } });
  if (code) return new ApiError(code, detail === "" ? {} : { detail });
  return new ApiError("backend_unavailable", { detail: `${WE_SAY}${detail}`, retryAfter: 1 });
}

function sizeOf(text: string): number {
  const size = /^\d+$/.test(text) ? Number(text) : 0;
  return Number.isSafeInteger(size) ? size : 0;
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
