import { createExecutionContext, env } from "cloudflare:test";
import { afterEach, beforeEach, expect, vi } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Secret } from "../../src/contract/secret.ts";
import type { KeyRingVariables } from "../../src/secrets/key-ring.ts";
import { SecretVault } from "../../src/secrets/vault.ts";
import { ADMIN_KEY, call, connectHost, ORIGIN } from "./client.ts";
import { getSandbox } from "./sandboxes.ts";
import worker, { fakeHost } from "./worker.ts";

export const VALUE = "s3cr3t-value-that-nobody-sees";
export const [FIRST_KEY, SECOND_KEY, THIRD_KEY] = ["first", "second", "third"].map((word) => word.padEnd(40, "-key"));

let count = 0;
export const newName = () => `secret-${++count}`;
export const post = (json: object, options: object = {}) => call("POST", "/v1/secrets", { json, ...options });
export async function newSecret(values: Record<string, string>, name = newName(), key = ADMIN_KEY): Promise<Secret> {
  const response = await post({ name, values }, { key });
  expect(response.status, await response.clone().text()).toBe(201);
  return response.json();
}
export const idOfNew = async (values: Record<string, string>) => (await newSecret(values)).secret_id;
export const remove = (id: string, key = ADMIN_KEY) => call("DELETE", `/v1/secrets/${id}`, { key });
export const rowOf = (id: string) =>
  env.DB.prepare("SELECT * FROM secrets WHERE secret_id = ?").bind(id).first<Record<string, string>>();
export const envOf = (sandboxId: string) => fakeHost.containers.get(sandboxId)!.spec.env;
export async function endOf(sandboxId: string): Promise<Sandbox> {
  await expect.poll(async () => (await getSandbox(sandboxId)).finish_reason, { timeout: 5000 }).toBeDefined();
  return getSandbox(sandboxId);
}
export const createIn = async (json: object, more: Partial<KeyRingVariables> = {}): Promise<Response> => {
  const headers = { authorization: `Bearer ${ADMIN_KEY}`, "content-type": "application/json" };
  const request = new Request(`${ORIGIN}/v1/sandboxes`, { method: "POST", headers, body: JSON.stringify(json) });
  return worker.fetch(request, { ...env, ...more }, createExecutionContext());
};
export const vaultWith = (more: Partial<KeyRingVariables>) =>
  new SecretVault({ DB: env.DB, SIGNING_SECRET: env.SIGNING_SECRET, ...more });
/** A secret under a key that is not the Worker's. */
export async function newUnder(more: Partial<KeyRingVariables>, values: Record<string, string> = { A: VALUE }) {
  const place = { environment: "main", secretId: newId("secret") };
  await vaultWith(more).add(place, newName(), values, Date.now());
  return place.secretId;
}
export const readWith = async (more: Partial<KeyRingVariables>, secretId: string) =>
  (await vaultWith(more).open("main", [secretId]))[0];

const logged: unknown[] = [];
/** Of the tests of the file: nothing that is logged holds the value. */
export function hidesTheValue(): void {
  beforeEach(async () => {
    fakeHost.isDown = false;
    await connectHost();
    for (const level of ["log", "warn", "error"] as const)
      vi.spyOn(console, level).mockImplementation((...line) => logged.push(...line));
  });
  afterEach(() => {
    vi.restoreAllMocks();
    expect(logged.map((one) => (one instanceof Error ? `${one.stack} ${String(one.cause)}` : String(one))).join())
      .not //
      .toContain(VALUE);
  });
}
