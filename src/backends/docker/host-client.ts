import type { z } from "zod";
import { ApiError } from "../../contract/errors.ts";
import { deriveHostKey, signRequest } from "../../contract/host-token.ts";
import { fromProblem } from "../../contract/problem.ts";

/** A host, as the control plane reaches it. */
export interface HostAddress {
  hostId: string;
  /** Base URL without a trailing slash. */
  url: string;
}

export interface CallOptions {
  body?: unknown;
  /** Milliseconds until the call is given up; without it the caller bounds it by `signal`. */
  timeoutMs?: number;
}

/** Longest wait for a host's answer that nobody asked to wait for. */
const DEFAULT_TIMEOUT_MS = 30_000;
const SIGNATURE_HEADER = "x-sandbar-signature";

/** Signed fetch to one host. Problems become `ApiError`s; a host out of reach is `backend_unavailable`. */
export class HostClient {
  readonly #host: HostAddress;
  readonly #signingSecret: string;
  #key: Promise<string> | undefined;

  constructor(host: HostAddress, signingSecret: string) {
    this.#host = host;
    this.#signingSecret = signingSecret;
  }

  /** One JSON call; the answer is checked against the schema. */
  async json<T>(schema: z.ZodType<T>, method: string, target: string, options: CallOptions = {}): Promise<T> {
    const response = await this.#call(method, target, options);
    const parsed = schema.safeParse(await response.json().catch(() => undefined));
    if (!parsed.success) {
      throw new ApiError("backend_unavailable", {
        detail: "The host gave an answer that makes no sense.",
        cause: parsed.error,
      });
    }
    return parsed.data;
  }

  /** One call without an answer. */
  async run(method: string, target: string, options: CallOptions = {}): Promise<void> {
    const response = await this.#call(method, target, options);
    await response.body?.cancel();
  }

  async #call(method: string, target: string, options: CallOptions): Promise<Response> {
    return this.raw(method, target, {
      ...(options.body !== undefined && {
        body: JSON.stringify(options.body),
        headers: { "content-type": "application/json" },
      }),
      signal: AbortSignal.timeout(options.timeoutMs ?? DEFAULT_TIMEOUT_MS),
    });
  }

  /** One call whose bodies are streams. Throws for an answer that is an error. */
  async raw(method: string, target: string, init: RequestInit = {}): Promise<Response> {
    const response = await this.send(method, target, init);
    if (response.ok) return response;
    const problem = fromProblem(await response.json().catch(() => undefined));
    if (problem && problem.code !== "unauthenticated") throw problem;
    throw new ApiError("backend_unavailable", {
      detail: problem
        ? "The host does not accept the control plane's signature."
        : `The host answered ${response.status}.`,
      retryAfter: 5,
    });
  }

  /** One call, whatever the answer is. */
  async send(method: string, target: string, init: RequestInit): Promise<Response> {
    this.#key ??= deriveHostKey(this.#signingSecret, this.#host.hostId);
    const headers = new Headers(init.headers);
    headers.set(SIGNATURE_HEADER, await signRequest(await this.#key, this.#host.hostId, method, target));
    try {
      return await fetch(`${this.#host.url}${target}`, { ...init, method, headers, redirect: "manual" });
    } catch (cause) {
      throw new ApiError("backend_unavailable", {
        detail: "The sandbox's host does not answer.",
        retryAfter: 5,
        cause,
      });
    }
  }
}
