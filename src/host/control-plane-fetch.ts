import { setTimeout as sleep } from "node:timers/promises";

/** What is asked of the control plane under a grant. */
export interface GrantedRequest {
  token: string;
  headers?: Record<string, string> | undefined;
  /** `pieces`, one behind the other, have the length together. */
  body?: { pieces: Iterable<Uint8Array>; length: number } | undefined;
  signal: AbortSignal;
}

/** How long, and how often, something is tried again. The patience counts from the first failure. */
export interface Patience {
  patienceMs: number;
  firstPauseMs: number;
  lastPauseMs: number;
  /** True of what may be otherwise in a moment. */
  isPassing(error: unknown): boolean;
  signal?: AbortSignal | undefined;
}

/** One request, once. Rejects where there is no answer: {@link whyUnanswered} says why. */
export function fetchGranted(
  url: string,
  method: string,
  { token, headers, body, signal }: GrantedRequest,
): Promise<Response> {
  return fetch(url, {
    method,
    // Lengths and ranges are those of the bytes themselves.
    headers: {
      ...headers,
      "accept-encoding": "identity",
      authorization: `Bearer ${token}`,
      ...(body && { "content-length": String(body.length) }),
    },
    ...(body && { body: streamOf(body.pieces), duplex: "half" as const }),
    redirect: "manual",
    signal,
  });
}

/** Does something again while it fails for what may pass, and somebody waits for it. */
export async function retrying<T>(attempt: () => Promise<T>, patience: Patience): Promise<T> {
  const { patienceMs, firstPauseMs, lastPauseMs, isPassing, signal } = patience;
  let giveUpAt = Infinity;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, lastPauseMs)) {
    try {
      return await attempt();
    } catch (error) {
      giveUpAt = Math.min(giveUpAt, Date.now() + patienceMs);
      if (!isPassing(error) || signal?.aborted || Date.now() + pauseMs > giveUpAt) throw error;
      await sleep(pauseMs);
    }
  }
}

/** Of statuses, 0 being no answer: whether another try may fare better. */
export const isPassingStatus = (status: number): boolean => status === 0 || status === 429 || status >= 500;

export function whyUnanswered(error: unknown): string {
  const { cause, message } = error as Error;
  return cause instanceof Error ? cause.message || String((cause as NodeJS.ErrnoException).code) : message;
}

/** Given as a whole, `fetch` would copy it, twice. */
function streamOf(pieces: Iterable<Uint8Array>): ReadableStream<Uint8Array> {
  const left = pieces[Symbol.iterator]();
  return new ReadableStream({
    pull(controller) {
      const { done, value } = left.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}
