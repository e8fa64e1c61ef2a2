import { mkdtempSync } from "node:fs";
import type { AddressInfo, Server } from "node:net";
import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { ProcessStatus, StartSpec } from "../../src/contract/host-protocol.ts";
import { deriveHostKey, signRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { startDaemon, type Daemon } from "../../src/host/daemon.ts";
import type { Runtime } from "../../src/host/runtime.ts";

export interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
  /** The body when it is JSON of the host. */
  json: Record<string, unknown>;
}

interface CallOptions {
  body?: Buffer | string | AsyncIterable<Buffer>;
  headers?: OutgoingHttpHeaders;
  /** Goes out instead of the right signature; `null`: none. */
  signature?: string | null;
}

/** Calls a daemon as the control plane does: by HTTP, signed. */
export class HostCaller {
  readonly hostId = newId("host");
  readonly signingSecret = "a-signing-secret-of-tests-0123456789";
  port = 0;
  key!: string;

  static async create(): Promise<HostCaller> {
    const caller = new HostCaller();
    caller.key = await deriveHostKey(caller.signingSecret, caller.hostId);
    return caller;
  }

  sign(method: string, target: string): Promise<string> {
    return signRequest(this.key, this.hostId, method, target);
  }

  /** Sends the call; the answer's head. */
  async open(method: string, target: string, options: CallOptions = {}): Promise<IncomingMessage> {
    const signature = options.signature === undefined ? await this.sign(method, target) : options.signature;
    return new Promise((resolve, reject) => {
      const request = httpRequest(
        {
          host: "127.0.0.1",
          port: this.port,
          method,
          path: target,
          headers: { ...(signature !== null && { "x-sandbar-signature": signature }), ...options.headers },
        },
        resolve,
      );
      request.on("error", reject);
      void (async () => {
        const { body } = options;
        if (body === undefined || typeof body === "string" || Buffer.isBuffer(body)) return request.end(body);
        try {
          for await (const chunk of body) {
            if (!request.write(chunk)) await new Promise((wake) => request.once("drain", wake));
          }
          return request.end();
        } catch (error) {
          return request.destroy(error as Error);
        }
      })();
    });
  }

  async call(method: string, target: string, options: CallOptions = {}): Promise<Answer> {
    const response = await this.open(method, target, options);
    const parts: Buffer[] = [];
    for await (const chunk of response) parts.push(chunk as Buffer);
    const body = Buffer.concat(parts);
    const isJson = /json/.test(response.headers["content-type"] ?? "") && !target.includes("/proxy");
    return {
      status: response.statusCode!,
      headers: response.headers,
      body,
      json: isJson ? JSON.parse(body.toString()) : {},
    };
  }

  send(method: string, target: string, body: unknown): Promise<Answer> {
    return this.call(method, target, { body: JSON.stringify(body) });
  }

  spec(rest: Partial<StartSpec> = {}): StartSpec {
    return {
      sandbox_id: newId("sandbox"),
      environment: "main",
      generation: 1,
      image: "host",
      env: {},
      raw_ports: [],
      lifetime_ms: 600_000,
      ...rest,
    };
  }

  put(spec: StartSpec): Promise<Answer> {
    return this.send("PUT", `/v1/sandboxes/${spec.sandbox_id}`, spec);
  }

  /** Starts a sandbox; the answer is its path. */
  async sandbox(rest: Partial<StartSpec> = {}): Promise<string> {
    const spec = this.spec(rest);
    const answer = await this.put(spec);
    if (answer.json.kind !== "launched") throw new Error(`not launched: ${answer.body.toString()}`);
    return `/v1/sandboxes/${spec.sandbox_id}`;
  }

  async exec(sandbox: string, command: string[], rest: object = {}, waitMs = 10_000): Promise<ProcessStatus> {
    const spec = { process_id: newId("process"), command, env: {}, ...rest };
    const answer = await this.send("POST", `${sandbox}/processes?wait_ms=${waitMs}`, spec);
    if (answer.status !== 200) throw new Error(answer.body.toString());
    return answer.json as unknown as ProcessStatus;
  }
}

/** A daemon over a runtime, in this process. */
export class SignedHost extends HostCaller {
  daemon!: Daemon;

  static async start(runtime: Runtime, options: Partial<Parameters<typeof startDaemon>[0]> = {}): Promise<SignedHost> {
    const host = new SignedHost();
    host.key = await deriveHostKey(host.signingSecret, host.hostId);
    host.daemon = await startDaemon({
      runtime,
      hostId: host.hostId,
      hostKey: host.key,
      version: "0.0.0",
      dataDir: mkdtempSync("/tmp/sandbar-host-"),
      listen: { host: "127.0.0.1", port: 0 },
      ...options,
    });
    host.port = host.daemon.port;
    return host;
  }
}

export const text = (base64: string | undefined) => Buffer.from(base64 ?? "", "base64").toString();

/** Waits until it holds. */
export async function until(holds: () => boolean | Promise<boolean>, limitMs = 5_000): Promise<void> {
  for (const giveUpAt = Date.now() + limitMs; !(await holds());) {
    if (Date.now() > giveUpAt) throw new Error("it did not come");
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

/** Lets a server listen; the answer is its port. */
export async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}
