import { fetchGranted, isPassingStatus, retrying, whyUnanswered } from "../control-plane-fetch.ts";

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
    const response = await fetchGranted(this.#url + target, method, {
      token: this.#token,
      headers,
      body: body && { pieces: piecesOf(body), length: body.length },
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    }).catch((cause: unknown) => {
      throw new RegistryError(`the registry does not answer: ${whyUnanswered(cause)}`, 0, cause);
    });
    if (response.ok || accept.includes(response.status)) return response;
    throw new RegistryError(await messageOf(response), response.status);
  }

  /** One request that may be repeated, until it is answered or the patience is over. */
  async patiently(method: string, target: string, request: UpstreamRequest = {}): Promise<Response> {
    return this.retrying(() => this.once(method, target, request), request.signal);
  }

  /** Does something again while it fails for what may pass, and somebody waits for it. */
  async retrying<T>(attempt: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const pauses = { firstPauseMs: FIRST_PAUSE_MS, lastPauseMs: LAST_PAUSE_MS };
    return retrying(attempt, { patienceMs: this.#patienceMs, ...pauses, isPassing, signal });
  }
}

/** All of an answer that is small; one that breaks off is as good as none. */
export async function wholeOf(response: Response): Promise<Buffer> {
  try {
    return Buffer.from(await response.arrayBuffer());
  } catch (cause) {
    throw new RegistryError(`the registry breaks off: ${whyUnanswered(cause)}`, 0, cause);
  }
}

function* piecesOf(body: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < body.length; at += PIECE_BYTES) yield body.subarray(at, at + PIECE_BYTES);
}

/** True of what may be otherwise in a moment. */
export function isPassing(error: unknown): boolean {
  return error instanceof RegistryError && isPassingStatus(error.status);
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
