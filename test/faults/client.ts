import { z } from "zod";
import type { Findings } from "./findings.ts";
import { ADMIN_KEY } from "./site.ts";

/** What became of a request, as far as its client can know. */
export type Outcome =
  /** It was acknowledged. */
  | { kind: "ok"; status: number; body: unknown; text: string }
  /** It was refused for good: nothing has happened. */
  | { kind: "refused"; status: number; code: string }
  /** Nobody knows whether it has happened: no answer, or "try again later". */
  | { kind: "unknown"; why: string };

export interface RequestOptions {
  body?: unknown;
  headers?: Record<string, string>;
  /** How long it was told to wait, in seconds. */
  waitS?: number;
}

/** Longest time for anything that was not told to wait. */
const HANG_MS = 60_000;

const ProblemSchema = z.object({ code: z.string(), status: z.int(), request_id: z.string() });

/** Speaks to the API, and finds fault with every answer that no client should ever get. */
export class Client {
  readonly #url: () => string;
  readonly #findings: Findings;
  readonly counts = { ok: 0, refused: 0, unknown: 0 };

  constructor(url: () => string, findings: Findings) {
    this.#url = url;
    this.#findings = findings;
  }

  async send(method: string, path: string, options: RequestOptions = {}): Promise<Outcome> {
    const outcome = await this.#send(method, path, options);
    this.counts[outcome.kind] += 1;
    return outcome;
  }

  async #send(method: string, path: string, { body, headers, waitS = 0 }: RequestOptions): Promise<Outcome> {
    const isText = typeof body === "string";
    const type = isText ? "application/octet-stream" : "application/json";
    const what = `${method} ${path}`;
    const limitMs = HANG_MS + waitS * 1000;
    try {
      const answer = await fetch(`${this.#url()}/v1${path}`, {
        method,
        headers: {
          authorization: `Bearer ${ADMIN_KEY}`,
          ...(body !== undefined && { "content-type": type }),
          ...headers,
        },
        ...(body !== undefined && { body: isText ? body : JSON.stringify(body) }),
        signal: AbortSignal.timeout(limitMs),
      });
      return this.#judge(what, answer, await answer.text());
    } catch (error) {
      const { name, cause } = error as Error & { cause?: { code?: string } };
      if (name === "TimeoutError")
        this.#findings.add("no request hangs", `${what} has no answer after ${limitMs / 1000} s`);
      return { kind: "unknown", why: cause?.code ?? String(error) };
    }
  }

  #judge(what: string, answer: Response, text: string): Outcome {
    const { status } = answer;
    const type = answer.headers.get("content-type") ?? "";
    if (answer.ok) return { kind: "ok", status, text, body: type.includes("json") ? JSON.parse(text) : undefined };
    if (isWranglers(answer, text)) return { kind: "unknown", why: "wrangler" };
    const problem = type === "application/problem+json" ? ProblemSchema.safeParse(JSON.parse(text)).data : undefined;
    if (!problem || problem.status !== status) {
      this.#findings.add("every error is a problem document", `${what} → ${status} ${type} ${text.slice(0, 200)}`);
      return { kind: "unknown", why: `${status}` };
    }
    if (status === 429 || status === 503) {
      if (!(Number(answer.headers.get("retry-after")) >= 1))
        this.#findings.add("429 and 503 say when to try again", `${what} → ${text}`);
      return { kind: "unknown", why: problem.code };
    }
    if (status >= 500) {
      this.#findings.add("no 500", `${what} → ${text}`);
      return { kind: "unknown", why: problem.code };
    }
    return { kind: "refused", status, code: problem.code };
  }
}

/** What stands before the Worker in `wrangler dev` answers by itself while there is no Worker behind it. */
function isWranglers(answer: Response, text: string): boolean {
  if (answer.headers.has("x-request-id")) return false;
  return (
    answer.headers.has("mf-error-stack") || /miniflare|wrangler|worker's script|Network connection lost/i.test(text)
  );
}
