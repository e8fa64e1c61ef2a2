import { expect } from "vitest";
import { ERRORS } from "../../src/contract/errors.ts";
import { call, connectHost, operations, problemOf } from "./client.ts";

/** The operations that need a key. */
export const all = (await operations()).filter(({ scope }) => scope !== undefined);

/** A sandbox on a host that reports. */
export async function fuzzedSandbox(): Promise<string> {
  await connectHost();
  const created = await call("POST", "/v1/sandboxes", { json: {} });
  return ((await created.json()) as { sandbox_id: string }).sandbox_id;
}

/** Every refusal is a problem document of the table, of a client's error. */
export async function expectRefused(response: Response, ...statuses: number[]): Promise<void> {
  const problem = await problemOf(response);
  expect(response.status).toBe(problem.status);
  expect(ERRORS[problem.code].status).toBe(problem.status);
  expect(problem.request_id).toBe(response.headers.get("x-request-id"));
  expect(response.status, JSON.stringify(problem)).toBeGreaterThanOrEqual(400);
  expect(response.status, JSON.stringify(problem)).toBeLessThan(500);
  if (statuses.length > 0) expect(statuses, JSON.stringify(problem)).toContain(response.status);
  expect(JSON.stringify(problem)).not.toMatch(/\bat \S+ \(|\.ts:\d|SQLITE|drizzle/i);
}
