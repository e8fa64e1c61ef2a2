import { ApiError, asApiError, FILE_CODES } from "../../../contract/errors.ts";
import { formatEvent } from "../../../contract/events.ts";
import { WATCH_EVENTS, type WatchEvent } from "../../../contract/file.ts";
import { toProblem } from "../../../contract/problem.ts";
import { streamOfText } from "../streams.ts";
import { AgentConnection, type AgentAddress } from "./connection.ts";
import { list, nonsense, stringsOf, type Frame } from "./frames.ts";

const WATCH_CODES = [...FILE_CODES, "unsupported_by_backend", "conflict"] as const;
/** How long it may take until all directories are watched. */
const READY_MS = 60_000;
const HEARTBEAT_MS = 15_000;
const HEARTBEAT = ":\n\n";

/**
 * What happens to the path, as an event stream. `isRunning` tells whether the container still does: a watch that ends with it
 * ends without an error. `done` is called once, when it has ended or nobody wants it any more.
 */
export async function watch(
  agent: AgentAddress,
  path: string,
  recursive: boolean,
  isRunning: () => boolean,
  done: () => void,
): Promise<ReadableStream<Uint8Array>> {
  const connection = await AgentConnection.open(agent, "O", list(path, recursive ? "1" : ""));
  try {
    const first = eventOf(await connection.answer("v", WATCH_CODES, READY_MS));
    if (first.event !== "ready") throw nonsense();
    return streamOfText(new WatchedEvents(connection, first, isRunning, done));
  } catch (error) {
    connection.close();
    throw error;
  }
}

class WatchedEvents {
  readonly #connection: AgentConnection;
  readonly #isRunning: () => boolean;
  readonly #done: () => void;
  #first: WatchEvent | undefined;
  /** What the agent says next. */
  #coming: Promise<Frame> | undefined;
  #isOver = false;

  constructor(connection: AgentConnection, first: WatchEvent, isRunning: () => boolean, done: () => void) {
    this.#connection = connection;
    this.#first = first;
    this.#isRunning = isRunning;
    this.#done = done;
  }

  async next(): Promise<string | undefined> {
    if (this.#isOver) return undefined;
    const first = this.#first;
    this.#first = undefined;
    if (first) return textOf(first);
    try {
      const said = await this.#hear();
      if (!said) return HEARTBEAT;
      if (said.type === "v") return textOf(eventOf(said));
      this.#isOver = true;
      return undefined;
    } catch (error) {
      this.#isOver = true;
      if (!this.#isRunning()) return undefined;
      return formatEvent("error", toProblem(asApiError(error) ?? new ApiError("internal")));
    }
  }

  close(): void {
    this.#isOver = true;
    this.#connection.close();
    this.#done();
  }

  /** Undefined when nothing has been said for a while. */
  async #hear(): Promise<Frame | undefined> {
    this.#coming ??= this.#connection.answerAtLast("vz", WATCH_CODES);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const silence = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), HEARTBEAT_MS);
    });
    try {
      const said = await Promise.race([this.#coming, silence]);
      if (said) this.#coming = undefined;
      return said;
    } finally {
      clearTimeout(timer);
    }
  }
}

function eventOf({ payload }: Frame): WatchEvent {
  const [said, path, from] = stringsOf(payload);
  const event = WATCH_EVENTS.find((one) => one === said);
  if (event === "overflow") return { event };
  if (!event || path === undefined) throw nonsense();
  if (event !== "rename") return { event, path };
  if (from === undefined) throw nonsense();
  return { event, path, from };
}

const textOf = ({ event, ...data }: WatchEvent) => formatEvent(event, data);
