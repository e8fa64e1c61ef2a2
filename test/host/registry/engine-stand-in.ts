import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { buffer } from "node:stream/consumers";
import { expect } from "vitest";
import type { Entrance } from "../../../src/host/registry/gateway.ts";

export const REPOSITORY = "main/snapshots";

interface Call {
  body?: Buffer | AsyncIterable<Buffer>;
  headers?: OutgoingHttpHeaders;
  /** Leaves. */
  signal?: AbortSignal;
}

/** The engine's side: requests by plain HTTP, with the password that it was given. */
export class EngineStandIn {
  readonly #entrance: Entrance;

  constructor(entrance: Entrance) {
    this.#entrance = entrance;
  }

  /** The head of the answer. */
  open(method: string, path: string, { body, headers = {}, signal }: Call = {}): Promise<IncomingMessage> {
    const { auth, name } = this.#entrance;
    return new Promise((resolve, reject) => {
      const authorization = `Basic ${btoa(`${auth.username}:${auth.password}`)}`;
      const url = `http://${name.slice(0, name.indexOf("/"))}${path}`;
      const request = httpRequest(
        url,
        { method, agent: false, signal, headers: { authorization, ...headers } },
        resolve,
      );
      request.on("error", reject);
      void (async () => {
        try {
          for await (const chunk of Buffer.isBuffer(body) ? [body] : (body ?? [])) {
            if (!request.write(chunk)) await new Promise((wake) => request.once("drain", wake));
          }
          request.end();
        } catch (error) {
          request.destroy(error as Error);
        }
      })();
    });
  }

  async call(method: string, path: string, call?: Call) {
    const response = await this.open(method, path, call);
    const body = await buffer(response);
    return { status: response.statusCode!, headers: response.headers, body, text: body.toString() };
  }

  async begin(): Promise<string> {
    const { status, headers } = await this.call("POST", `/v2/${REPOSITORY}/blobs/uploads/`);
    expect(status).toBe(202);
    return headers.location!;
  }
}
