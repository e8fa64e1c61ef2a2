import { env } from "cloudflare:test";
import type { ContainerProcess } from "../../src/contract/process.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call } from "./client.ts";

/** A sandbox that has started, over the API. */
export async function startSandbox(json: object = {}): Promise<string> {
  const response = await call("POST", "/v1/sandboxes", { json });
  if (response.status !== 201) throw new Error(await response.text());
  const { sandbox_id } = (await response.json()) as Sandbox;
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const { state } = await getSandbox(sandbox_id);
    if (state === "ready") return sandbox_id;
    await new Promise((wake) => setTimeout(wake, 10));
  }
  throw new Error("The sandbox did not start.");
}

export const getSandbox = async (sandboxId: string): Promise<Sandbox> =>
  (await call("GET", `/v1/sandboxes/${sandboxId}`)).json();

export async function exec(sandboxId: string, request: object, query = ""): Promise<ContainerProcess> {
  const response = await call("POST", `/v1/sandboxes/${sandboxId}/exec${query}`, { json: request });
  if (response.status !== 200) throw new Error(await response.text());
  return response.json();
}

export const getProcess = async (sandboxId: string, processId: string, query = ""): Promise<ContainerProcess> =>
  (await call("GET", `/v1/sandboxes/${sandboxId}/processes/${processId}${query}`)).json();

export const patch = (sandboxId: string, json: object) => call("PATCH", `/v1/sandboxes/${sandboxId}`, { json });

/** The sandbox as it is after a PATCH that must succeed. */
export async function changed(sandboxId: string, json: object): Promise<Sandbox> {
  const response = await patch(sandboxId, json);
  if (response.status !== 200) throw new Error(await response.text());
  return response.json();
}

export const terminate = (sandboxId: string) => call("DELETE", `/v1/sandboxes/${sandboxId}`);

export const objectOf = (sandboxId: string) => env.SANDBOXES.get(env.SANDBOXES.idFromName(sandboxId));

/** A sandbox with a process that says what it is told. */
export async function withCat() {
  const sandboxId = await startSandbox();
  const { process_id } = await exec(sandboxId, { command: ["cat"], open_stdin: true });
  return { sandboxId, processId: process_id, path: `/v1/sandboxes/${sandboxId}/processes/${process_id}/attach` };
}
