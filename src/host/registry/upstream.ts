import { setTimeout as sleep } from "node:timers/promises";

/** How long a request that fails for want of an answer, or with one that may change, is tried again. Counts from its first failure. */
const PATIENCE_MS = 120_000;
const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 5_000;
/** One request; a chunk of an upload may be on a slow line. */
const REQUEST_TIMEOUT_MS = 600_000;
const PIECE_BYTES = 64 * 1024;

/** What the registry said against it; the message is its own. `status` 0: it did not answer. */
export class RegistryError extends Error {
  override readonly name = "RegistryError";
  readonly status: number;

  constructor(message: string, status: number, cause?: unknown) {
    super(message, { cause });
    this.status = status;
  }
}

export interface UpstreamRequest {
  headers?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
  /** Statuses that are answers and no errors, besides 2xx. */
  accept?: readonly number[];
  signal?: AbortSignal | undefined;
}

/** The control plane's registry, for one grant. */
export class Upstream {
  readonly #url: string;
  readonly #token: string;
  readonly #patienceMs: number;

  /** `url`: of the control plane, without `/v2`. */
  constructor(url: string, token: string, patienceMs = PATIENCE_MS) {
    this.#url = url;
    this.#token = token;
    this.#patienceMs = patienceMs;
  }

  /** One request, once. `target` begins with `/v2/`. Throws {@link RegistryError}. */
  async once(method: string, target: string, request: UpstreamRequest = {}): Promise<Response> {
    const { headers, body, accept = [], signal } = request;
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    let response: Response;
    try {
      response = await fetch(this.#url + target, {
        method,
        // Lengths and ranges are those of the bytes themselves.
        headers: {
          ...headers,
          "accept-encoding": "identity",
          authorization: `Bearer ${this.#token}`,
          ...(body && { "content-length": String(body.length) }),
        },
        ...(body && { body: piecesOf(body), duplex: "half" as const }),
        redirect: "manual",
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
    } catch (cause) {
      throw new RegistryError(`the registry does not answer: ${reasonOf(cause)}`, 0, cause);
    }
    if (response.ok || accept.includes(response.status)) return response;
    throw new RegistryError(await messageOf(response), response.status);
  }

  /** One request that may be repeated, until it is answered or the patience is over. */
  async patiently(method: string, target: string, request: UpstreamRequest = {}): Promise<Response> {
    return this.retrying(() => this.once(method, target, request), request.signal);
  }

  /** Does something again while it fails for what may pass, and somebody waits for it. */
  async retrying<T>(attempt: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    let giveUpAt = Infinity;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS)) {
      try {
        return await attempt();
      } catch (error) {
        giveUpAt = Math.min(giveUpAt, Date.now() + this.#patienceMs);
        if (!isPassing(error) || signal?.aborted || Date.now() + pauseMs > giveUpAt) throw error;
        await sleep(pauseMs);
      }
    }
  }
}

/** All of an answer that is small; one that breaks off is as good as none. */
export async function wholeOf(response: Response): Promise<Buffer> {
  try {
    return Buffer.from(await response.arrayBuffer());
  } catch (cause) {
    throw new RegistryError(`the registry breaks off: ${reasonOf(cause)}`, 0, cause);
  }
}

/** Given as a whole, `fetch` would copy it, twice. */
function piecesOf(body: Uint8Array<ArrayBuffer>): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at < body.length) controller.enqueue(body.subarray(at, (at += PIECE_BYTES)));
      else controller.close();
    },
  });
}

/** True of what may be otherwise in a moment. */
export function isPassing(error: unknown): boolean {
  return error instanceof RegistryError && (error.status === 0 || error.status === 429 || error.status >= 500);
}

async function messageOf(response: Response): Promise<string> {
  const text = await response.text().catch(() => "");
  try {
    const [error] = (JSON.parse(text) as { errors: { code: string; message: string }[] }).errors;
    return `${error!.message} (${error!.code})`;
  } catch {
    return `the registry answers ${response.status}`;
  }
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error;
  return cause instanceof Error ? cause.message || String((cause as NodeJS.ErrnoException).code) : message;
}
