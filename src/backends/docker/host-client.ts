import type { z } from "zod";
import type { ByteSource, ByteTarget } from "../../contract/byte-source.ts";
import { ApiError } from "../../contract/errors.ts";
import { errorOfHostAnswer, hostAway, REFUSED_HEADER, signatureRefused } from "../../contract/host-answer.ts";
import { deriveHostKey, importHostKey, signRequest, type ReadyKey } from "../../contract/host-token.ts";

/** A host, as the control plane reaches it. */
export interface HostAddress {
  hostId: string;
  /** Base URL without a trailing slash. */
  url: string;
  /** Of the key that the host has; 1 if left out. */
  keyVersion?: number | undefined;
}

/** Looks up how the host is reached now; undefined while nobody knows. */
export type RelocateHost = () => Promise<HostAddress | undefined>;

export interface CallOptions {
  body?: unknown;
  /** Milliseconds until the call is given up; without it the caller bounds it by `signal`. */
  timeoutMs?: number;
}

/** Longest wait for a host's answer that nobody asked to wait for. */
const DEFAULT_TIMEOUT_MS = 30_000;
const SIGNATURE_HEADER = "x-sandbar-signature";

/**
 * Signed fetch to one host. Problems become `ApiError`s; a host out of reach is `backend_unavailable`. A host that has another key
 * by now is asked again with that one, unless the body was a stream, which is used up: `backend_unavailable`, and the next call
 * has the key.
 */
export class HostClient {
  #host: HostAddress;
  readonly #signingSecret: string;
  readonly #relocate: RelocateHost | undefined;
  #key: Promise<ReadyKey> | undefined;

  constructor(host: HostAddress, signingSecret: string, relocate?: RelocateHost) {
    this.#host = host;
    this.#signingSecret = signingSecret;
    this.#relocate = relocate;
  }

  /** One JSON call; the answer is checked against the schema. */
  async json<T>(schema: z.ZodType<T>, method: string, target: string, options: CallOptions = {}): Promise<T> {
    return this.#call(method, target, options, (response) => readJson(schema, response));
  }

  /** One call whose body is a stream, with a JSON answer. It takes as long as the body and the host do. */
  async upload<T>(schema: z.ZodType<T>, method: string, target: string, body: ReadableStream<Uint8Array>): Promise<T> {
    const headers = { "content-type": "application/octet-stream" };
    return readJson(schema, await this.raw(method, target, { body, headers }));
  }

  /** The signed request for bytes, for whoever is to read them. Nothing is sent yet. */
  async source(target: string): Promise<ByteSource> {
    return { kind: "request", ...(await this.#signed("GET", target)) };
  }

  /** The same for whoever is to send bytes. */
  target(target: string, method = "PUT"): Promise<ByteTarget> {
    return this.#signed(method, target);
  }

  /** One call without an answer. */
  async run(method: string, target: string, options: CallOptions = {}): Promise<void> {
    await this.#call(method, target, options, async (response) => response.body?.cancel());
  }

  /** The time limit ends with the call: a timer left behind would keep the object from its sleep. */
  async #call<T>(
    method: string,
    target: string,
    options: CallOptions,
    read: (response: Response) => Promise<T>,
  ): Promise<T> {
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const init: RequestInit = { signal: limit.signal };
    if (options.body !== undefined) {
      init.body = JSON.stringify(options.body);
      init.headers = { "content-type": "application/json" };
    }
    try {
      return await read(await this.raw(method, target, init));
    } finally {
      clearTimeout(timer);
    }
  }

  /** One call whose bodies are streams. Throws for an answer that is an error. */
  async raw(method: string, target: string, init: RequestInit = {}): Promise<Response> {
    const response = await this.send(method, target, init);
    const error = await errorOfHostAnswer(response);
    if (error) throw error;
    return response;
  }

  /** One call, whatever the answer is, unless the host does not take its signature. */
  async send(method: string, target: string, init: RequestInit): Promise<Response> {
    const first = await this.#sendOnce(method, target, init);
    if (!isRefusal(first)) return first;
    await first.body?.cancel();
    if (!(await this.#hasMoved()) || init.body instanceof ReadableStream) throw signatureRefused();
    const second = await this.#sendOnce(method, target, init);
    if (!isRefusal(second)) return second;
    await second.body?.cancel();
    throw signatureRefused();
  }

  async #sendOnce(method: string, target: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    headers.set(SIGNATURE_HEADER, await this.#sign(method, target));
    try {
      return await fetch(`${this.#host.url}${target}`, { ...init, method, headers, redirect: "manual" });
    } catch (cause) {
      throw hostAway(cause);
    }
  }

  /** True where the host has another key or address than the one that it was asked with. */
  async #hasMoved(): Promise<boolean> {
    const before = this.#host;
    const now = await this.#relocate?.().catch(() => undefined);
    if (now?.hostId !== before.hostId || (now.url === before.url && versionOf(now) === versionOf(before))) return false;
    this.#host = now;
    this.#key = undefined;
    return true;
  }

  async #signed(method: string, target: string): Promise<ByteTarget> {
    const headers = { [SIGNATURE_HEADER]: await this.#sign(method, target) };
    return { url: `${this.#host.url}${target}`, headers };
  }

  async #sign(method: string, target: string): Promise<string> {
    const { hostId } = this.#host;
    const version = versionOf(this.#host);
    this.#key ??= deriveHostKey(this.#signingSecret, hostId, version).then(importHostKey);
    return signRequest(await this.#key, hostId, method, target, version);
  }
}

const versionOf = ({ keyVersion = 1 }: HostAddress) => keyVersion;

const isRefusal = (response: Response) => response.status === 401 && response.headers.has(REFUSED_HEADER);

/** The answer, checked against the schema. */
async function readJson<T>(schema: z.ZodType<T>, response: Response): Promise<T> {
  const parsed = schema.safeParse(await response.json().catch(() => undefined));
  if (parsed.success) return parsed.data;
  throw new ApiError("backend_unavailable", {
    detail: "The host gave an answer that makes no sense.",
    cause: parsed.error,
  });
}
