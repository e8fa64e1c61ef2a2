import { request as httpRequest, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import type { Instance } from "./instance.ts";

/** The host name at which a port of a sandbox answers. */
export const tunnelHost = ({ port }: Instance, sandboxId: string, of: number) => `${of}-${sandboxId}.localhost:${port}`;

export interface Asked {
  path?: string;
  method?: string;
  headers?: OutgoingHttpHeaders;
  body?: Iterable<Buffer> | AsyncIterable<Buffer>;
}

export interface Answer {
  status: number;
  headers: IncomingMessage["headers"];
  body: Buffer;
}

/** The head of the answer through the tunnel. Browsers and curl resolve names below localhost by themselves, Node does not. */
export function openTunnel(
  { port }: Instance,
  host: string,
  { path = "/", method = "GET", headers = {}, body }: Asked = {},
): Promise<IncomingMessage> {
  return new Promise((done, fail) => {
    const all = { host, ...headers };
    const request = httpRequest({ host: "127.0.0.1", port, method, path, headers: all, timeout: 60_000 }, done);
    request.on("error", fail).on("timeout", () => request.destroy(new Error("no answer")));
    const send = async () => {
      for await (const chunk of body ?? [])
        if (!request.write(chunk)) await new Promise((wake) => request.once("drain", wake));
      request.end();
    };
    send().catch((error: Error) => request.destroy(error));
  });
}

/** The whole of it. */
export async function askTunnel(instance: Instance, host: string, asked: Asked = {}): Promise<Answer> {
  const answer = await openTunnel(instance, host, asked);
  const parts: Buffer[] = [];
  for await (const chunk of answer) parts.push(chunk as Buffer);
  return { status: answer.statusCode!, headers: answer.headers, body: Buffer.concat(parts) };
}
