import { env } from "cloudflare:test";
import { afterEach, beforeEach, expect } from "vitest";
import type { WarmSpec } from "../../../src/contract/host-protocol.ts";
import type { Pool } from "../../../src/contract/pool.ts";
import { openPlacement } from "../../../src/placement/client.ts";
import { call, forgetHosts, newKey } from "../client.ts";
import { fakeHost } from "../worker.ts";
import { create, hostId, report, type HostOptions } from "./fleet.ts";

export const HOST: HostOptions = { memory: 4096, warmPools: true };
const made: string[] = [];
export let key: string;

export async function createPool(json: object): Promise<Pool> {
  const response = await call("POST", "/v1/pools", { key, json });
  if (response.status !== 201) throw new Error(await response.text());
  return response.json();
}

export const get = async (poolId: string): Promise<Pool> => (await call("GET", `/v1/pools/${poolId}`, { key })).json();
export const list = async (): Promise<{ data: Pool[] }> => (await call("GET", "/v1/pools", { key })).json();
export const used = async (letter: string) => (await openPlacement(env).live([hostId(letter)]))[hostId(letter)]!.used;

/** The host does as it is told. */
export async function obey(letter: string, orders: readonly WarmSpec[], options = HOST): Promise<WarmSpec[]> {
  const warm = orders.map(({ warm_id }) => ({ warm_id, state: "ready" as const }));
  return (await report(letter, options, { warm }))!;
}

export async function createOne(json: object): Promise<string> {
  const id = await create(json, key);
  made.push(id);
  await expect.poll(() => fakeHost.containers.has(id)).toBe(true);
  return id;
}

export const specOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.spec;

/** Of the tests of the file: each has an environment of its own, and leaves nothing. */
export function eachInItsEnvironment(): void {
  beforeEach(async () => {
    await forgetHosts();
    ({ key } = await newKey(["read", "write"], `pools-${crypto.randomUUID().slice(0, 8)}`));
  });

  afterEach(async () => {
    await Promise.all(made.splice(0).map((id) => call("DELETE", `/v1/sandboxes/${id}`, { key })));
    for (const { pool_id } of (await list()).data) await call("DELETE", `/v1/pools/${pool_id}`, { key });
  });
}
