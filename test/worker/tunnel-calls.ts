import { call, send } from "./client.ts";
import { exec, startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

export const PORT = 8080;

/** A sandbox with an app that says how it was asked, in JSON. */
export async function startApp(create: object = {}): Promise<string> {
  fakeHost.app = async (request) =>
    Response.json({
      method: request.method,
      url: request.url,
      headers: Object.fromEntries(request.headers),
      body: await request.text(),
    });
  const sandboxId = await startSandbox({ encrypted_ports: [PORT, PORT + 1], ...create });
  for (const port of [PORT, PORT + 1]) await exec(sandboxId, { command: ["serve", String(port)] });
  fakeHost.clients.length = 0;
  return sandboxId;
}

export interface Asked {
  method: string;
  url: string;
  headers: Record<string, string>;
  body: string;
}

export const tunnelUrl = (sandboxId: string, path = "/", port = PORT, scheme = "https") =>
  `${scheme}://${port}-${sandboxId}.localhost${path}`;

/** Calls the tunnel as a client at that address does. */
export function through(
  sandboxId: string,
  path = "/",
  { client = "198.51.100.7", port = PORT, scheme = "https", ...init }: RequestInit & CallerOptions = {},
): Promise<Response> {
  const headers = new Headers(init.headers);
  if (client !== null) headers.set("cf-connecting-ip", client);
  return send(new Request(tunnelUrl(sandboxId, path, port, scheme), { redirect: "manual", ...init, headers }));
}

interface CallerOptions {
  /** As Cloudflare says it; null where nobody does. */
  client?: string | null;
  port?: number;
  scheme?: string;
}

export async function connectToken(sandboxId: string, json: object = {}): Promise<ConnectTokenView> {
  const response = await call("POST", `/v1/sandboxes/${sandboxId}/connect-tokens`, { json: { port: PORT, ...json } });
  if (response.status !== 201) throw new Error(await response.text());
  return response.json();
}

export interface ConnectTokenView {
  url: string;
  token: string;
  expires_at: string;
}
