import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { callPort } from "../../src/api/call-port.ts";
import type { Env } from "../../src/api/env.ts";
import { asApiError, ERRORS } from "../../src/contract/errors.ts";
import { newId } from "../../src/contract/ids.ts";
import { callOf, type PortCall } from "../../src/sandbox/call.ts";
import { onwardAnswer } from "../../src/sandbox/onward.ts";

const target = { sandboxId: newId("sandbox"), port: 80 };

/** What the object was asked, and what the host; and how it answers. */
let asked: (PortCall & { method: string; body: string })[];
let sent: string[];
let host: () => Response;

const object = {
  async fetch(request: Request): Promise<Response> {
    const { kind: _, ...call } = callOf(request) as PortCall;
    asked.push({ ...call, kind: "port", method: request.method, body: await request.text() });
    if (call.isThrough) return new Response("through");
    return onwardAnswer({ kind: "host", url: "http://host.test/proxy", headers: { "x-sandbar-signature": "s" } });
  },
};
const env = { SANDBOXES: { idFromName: (name: string) => name, get: () => object } } as unknown as Env;

beforeEach(() => {
  [asked, sent] = [[], []];
  host = () => new Response("from the app");
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input as string, init as RequestInit);
    sent.push(`${request.method} ${await request.text()}`);
    return host();
  });
});
afterEach(() => vi.restoreAllMocks());

const ask = (method: string, body?: string) =>
  callPort(new Request("http://80-x.localhost/", { method, ...(body !== undefined && { body }) }), env, target);
const away = () => {
  throw new TypeError("the connection was cut");
};

it("passes the object by, with and without a body", async () => {
  expect(await (await ask("GET")).text()).toBe("from the app");
  expect(await (await ask("POST", "much")).text()).toBe("from the app");
  expect(sent).toEqual(["GET ", "POST much"]);
  expect(asked).toMatchObject([{ method: "GET" }, { method: "POST", bodyFollows: true, body: "" }]);
});

it("asks once more through the object what may be asked twice, where the host fails", async () => {
  host = away;
  expect(await (await ask("GET")).text()).toBe("through");
  expect(asked.map(({ isThrough }) => isThrough)).toEqual([undefined, true]);
});

it.each([
  ["POST", "once"],
  ["DELETE", undefined],
  ["POST", undefined],
])("sends %s with the body %j once, and lets the object know of a failure", async (method, body) => {
  host = away;
  const error = asApiError(await ask(method, body).catch((thrown: unknown) => thrown));
  expect(error?.code).toBe("backend_unavailable");
  expect(ERRORS[error!.code].status).toBe(503);
  expect(sent).toEqual([`${method} ${body ?? ""}`]);
  expect(asked.map(({ isThrough, failure }) => [isThrough, failure])).toEqual([
    [undefined, undefined],
    [undefined, "backend_unavailable"],
  ]);
});
