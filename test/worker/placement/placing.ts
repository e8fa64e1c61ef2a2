import { env } from "cloudflare:test";
import { afterEach, beforeEach } from "vitest";
import { openPlacement } from "../../../src/placement/client.ts";
import type { PlacementRequest } from "../../../src/placement/rpc.ts";
import { newId } from "../../../src/contract/ids.ts";
import { forgetHosts } from "../client.ts";
import { terminate } from "../sandboxes.ts";
import { fakeHost } from "../worker.ts";
import { create, hostId } from "./fleet.ts";

const made: string[] = [];
export const createOne = async (json: object, key?: string) => {
  const id = await create(json, key);
  made.push(id);
  return id;
};

export const specOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.spec;
export const live = async (letter: string) => (await openPlacement(env).live([hostId(letter)]))[hostId(letter)]!.used;

export function request(fields: Partial<PlacementRequest> = {}): PlacementRequest {
  return { sandboxId: newId("sandbox"), environment: "main", create: {}, since: Date.now(), ...fields };
}

/** Of the tests of the file: each begins without hosts, and leaves no sandbox. */
export function withoutHosts(): void {
  beforeEach(async () => {
    fakeHost.isDown = false;
    fakeHost.holdsStarts = false;
    await forgetHosts();
  });
  afterEach(async () => {
    await Promise.all(made.splice(0).map((id) => terminate(id)));
  });
}
