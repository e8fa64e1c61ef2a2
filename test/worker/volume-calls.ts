import { createExecutionContext, env } from "cloudflare:test";
import { expect } from "vitest";
import type { HostInfo } from "../../src/contract/host-info.ts";
import type { Volume } from "../../src/contract/volume.ts";
import { openVolume } from "../../src/volumes/client.ts";
import type { VolumeRpc } from "../../src/volumes/rpc.ts";
import { ADMIN_KEY, call, HOST_ID, hostInfo, ORIGIN, reportHost } from "./client.ts";
import worker, { fakeHost } from "./worker.ts";

let count = 0;
export const newName = () => `volume-${++count}`;

export const postVolume = (json: object, options: object = {}) => call("POST", "/v1/volumes", { json, ...options });

/** A volume, over the API. */
export async function newVolume(name = newName(), key = ADMIN_KEY): Promise<Volume> {
  const response = await postVolume({ name }, { key });
  expect(response.status, await response.clone().text()).toBe(201);
  return response.json();
}

export const removeVolume = (id: string, key = ADMIN_KEY) => call("DELETE", `/v1/volumes/${id}`, { key });

/** Whether the volume's object has a volume. */
export async function hasObject(volumeId: string, environment = "main"): Promise<boolean> {
  try {
    await openVolume(env, volumeId).contents({ environment });
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: "volume_not_found" });
    return false;
  }
}

/** What a host of these tests says of itself that can mount volumes. */
export function mountingInfo(hostId = HOST_ID): HostInfo {
  const info = hostInfo(hostId);
  return { ...info, capabilities: { ...info.capabilities, volumes: true, warm_pools: true } };
}

/** A host that can mount volumes, and reports. */
export const connectMountingHost = (hostId = HOST_ID) =>
  reportHost({ url: "http://127.0.0.1:9", info: mountingInfo(hostId), containers: [] });

export const createSandbox = (json: object, key = ADMIN_KEY) => call("POST", "/v1/sandboxes", { key, json });

export const mountsOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.spec.volumes;

/** The same API, where calls to the objects of volumes pass `before`: it hears of them, and may throw instead. */
export function callPast(
  before: (method: keyof VolumeRpc, volumeId: string) => void,
  method: string,
  path: string,
  json?: object,
): Promise<Response> {
  const get = (id: DurableObjectId) =>
    new Proxy(env.VOLUMES.get(id), {
      get:
        (stub, name: keyof VolumeRpc) =>
        async (...args: unknown[]) => {
          before(name, id.name!);
          return (stub as unknown as Record<string, (...all: unknown[]) => unknown>)[name]!(...args);
        },
    });
  const volumes = { idFromName: (name: string) => env.VOLUMES.idFromName(name), get };
  const headers = { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" };
  const request = new Request(`${ORIGIN}${path}`, { method, headers, ...(json && { body: JSON.stringify(json) }) });
  const VOLUMES = volumes as unknown as typeof env.VOLUMES;
  return worker.fetch(request, { ...env, VOLUMES }, createExecutionContext()) as Promise<Response>;
}
