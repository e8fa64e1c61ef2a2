import { beforeAll, describe, expect, it } from "vitest";
import { ADMIN_KEY, call, ORIGIN, problemOf, send } from "./client.ts";
import { bodyFor, queryFor } from "./enough.ts";
import { all, expectRefused, fuzzedSandbox } from "./fuzz.ts";

let sandboxId: string;

beforeAll(async () => {
  sandboxId = await fuzzedSandbox();
});

const BAD_IDS = [
  "x",
  "sb-",
  "sb-AAAAAAAAAAAAAAAAAAAAAA",
  "sb-aaaaaaaaaaaaaaaaaaaaaaa",
  "sb-aaaaaaaaaaaaaaaaaaaaaa",
  "%00",
  "%E0%A4%A",
  "%2e%2e%2f",
  "a%2Fb",
  "null",
  "'; DROP TABLE sandboxes;--",
  "𝕊",
  "x".repeat(5000),
];
describe.each(all.filter(({ path }) => path.includes("{")))("an id that is none at $method $path", (operation) => {
  const { method, path, takesJson, headers } = operation;
  it.each(BAD_IDS)("is not found: %s", async (id) => {
    const target = path.replaceAll(/\{\w+\}/g, id) + queryFor(operation);
    const options = { headers, ...(takesJson && { json: bodyFor(operation) }) };
    await expectRefused(await call(method, target, options), 404);
  });
});

describe("a path", () => {
  it.each([
    "/",
    "/v1",
    "/v1/",
    "/v1/nope",
    "/v1/sandboxes/",
    "/v1//sandboxes",
    "/V1/sandboxes",
    "/v1/sandboxes/a/b/c/d",
    "/v1/sandboxes/../../etc/passwd",
    "/v1/%73andboxe",
    "/openapi.yaml",
    "/openapixjson",
    "/v3/",
    "/docs/x",
    "/.env",
  ])("that is none is 404: %s", async (path) => {
    for (const method of ["GET", "POST", "DELETE", "OPTIONS"]) await expectRefused(await call(method, path), 404);
  });

  it.each([
    ["PATCH", "/v1/sandboxes", "GET, HEAD, POST"],
    ["DELETE", "/v1/sandboxes", "GET, HEAD, POST"],
    ["OPTIONS", "/v1/sandboxes", "GET, HEAD, POST"],
    ["PUT", "/v1/sandboxes/x/exec", "GET, HEAD, POST"],
    ["GET", "/v1/sandboxes/x/processes/main/signal", "POST"],
    ["POST", "/v1/sandboxes/x/processes/main/stdout", "GET, HEAD"],
    ["POST", "/v1/sandboxes/x/files", "DELETE, GET, HEAD, PUT"],
    ["DELETE", "/v1/sandboxes/x/files/archive", "GET, HEAD, PUT"],
    ["PUT", "/v1/sandboxes/x/files/directories", "POST"],
    ["POST", "/v1/sandboxes/x/files/watch", "GET, HEAD"],
    ["PUT", "/v1/volumes/x", "DELETE, GET, HEAD"],
    ["GET", "/v1/sandboxes/x/volumes/commit", "POST"],
    ["POST", "/docs", "GET, HEAD"],
  ])("without the method %s is 405: %s", async (method, path, allow) => {
    const response = await call(method, path, { key: null });
    expect(response.headers.get("allow")).toBe(allow);
    await expectRefused(response, 405);
  });

  it("answers HEAD as GET, without a body", async () => {
    for (const path of ["/v1/sandboxes", "/health", `/v1/sandboxes/${sandboxId}/files?path=/etc/os-release`]) {
      const response = await call("HEAD", path);
      expect(response.status).toBe(200);
      expect(await response.text()).toBe("");
    }
    expect((await call("HEAD", "/v1/nope")).status).toBe(404);
  });
});

describe("a query", () => {
  it.each([
    "",
    "?path=",
    "?path=relative",
    "?path=/a&path=/b",
    "?path=/a%00b",
    `?path=/${"x".repeat(5000)}`,
    "?nope=/a",
    "?path=/a&nope=1",
  ])("of files that is wrong is refused: %s", async (query) => {
    const path = `/v1/sandboxes/${sandboxId}/files${query}`;
    await expectRefused(await call("GET", path), 400);
    await expectRefused(await call("PUT", path, { body: "x" }), 400);
    await expectRefused(await call("DELETE", path), 400);
  });

  it.each(["?path=", "?path=relative", "?path=/a&path=/b", "?path=/a%00b", "?nope=/a", "?path=/etc&nope=1"])(
    "of what is below files that is wrong is refused: %s",
    async (query) => {
      const path = (what: string) => `/v1/sandboxes/${sandboxId}/files/${what}${query}`;
      for (const what of ["stat", "list", "watch", "archive"]) {
        for (const method of ["GET", "HEAD"]) {
          const response = await call(method, path(what));
          expect([what, response.status]).toEqual([what, 400]);
        }
      }
      await expectRefused(await call("PUT", path("archive"), { body: "x" }), 400);
    },
  );

  it.each(["?wait=x", "?wait=-1", "?wait=601", "?wait=NaN", "?wait=1&wait=2", "?encoding=latin1", "?waitt=1"])(
    "of exec that is wrong is refused: %s",
    async (query) => {
      await expectRefused(
        await call("POST", `/v1/sandboxes/${sandboxId}/exec${query}`, { json: { command: ["true"] } }),
        400,
      );
    },
  );

  const ofProcess: [string, string, string, string][] = [
    ["GET", "stdout", "offset=-1", "offset"],
    ["GET", "stdout", "offset=x", "offset"],
    ["GET", "stdout", "offset=1.5", "offset"],
    ["GET", "stdout", "offset=1&offset=2", "offset"],
    ["GET", "stderr", "follow=yes", "follow"],
    ["GET", "stderr", "folow=true", "folow"],
    ["GET", "events", "last_event_id=1", "last_event_id"],
    ["GET", "events", "last_event_id=1.-2", "last_event_id"],
    ["GET", "events", "offset=1", "offset"],
    ["POST", "stdin", "offset=x", "offset"],
    ["POST", "stdin", "eof=1", "eof"],
    ["POST", "stdin", "end=true", "end"],
    ["GET", "attach", "stdout_offset=x", "stdout_offset"],
    ["GET", "attach", "stderr_offset=-1", "stderr_offset"],
    ["GET", "attach", "acks=2", "acks"],
    ["GET", "attach", "offset=1", "offset"],
  ];
  it.each(ofProcess)("of %s …/%s that is wrong is named: %s", async (method, what, query, path) => {
    const target = `/v1/sandboxes/${sandboxId}/processes/main/${what}?${query}`;
    const options = what === "attach" ? { headers: { upgrade: "websocket" } } : {};
    const problem = await problemOf(await call(method, target, options));
    expect(problem).toMatchObject({ status: 400, errors: [{ path }] });
  });

  it.each(["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=p", "cursor=-1", "nope=1"])(
    "of the list of processes that is wrong is named: %s",
    async (query) => {
      const problem = await problemOf(await call("GET", `/v1/sandboxes/${sandboxId}/processes?${query}`));
      expect(problem).toMatchObject({ status: 400, errors: [{ path: query.split("=")[0] }] });
    },
  );

  it("of the socket of an exec that is wrong is named", async () => {
    const options = { headers: { upgrade: "websocket" } };
    const problem = await problemOf(await call("GET", `/v1/sandboxes/${sandboxId}/exec?acks=x`, options));
    expect(problem).toMatchObject({ status: 400, errors: [{ path: "acks" }] });
  });

  it.each(["9", "888", "77777", "rwx", "-1"])("of a file's mode that is wrong is refused: %s", async (mode) => {
    await expectRefused(await call("PUT", `/v1/sandboxes/${sandboxId}/files?path=/f&mode=${mode}`, { body: "x" }), 400);
  });
});

it("takes odd headers calmly", async () => {
  const odd: Record<string, string>[] = [
    { "idempotency-key": "x".repeat(256) },
    { "idempotency-key": " " },
    { range: "bytes=5-1" },
    { range: "bytes=0-99999999999999999999" },
    { authorization: `bearer   ${ADMIN_KEY}` },
    { "x-request-id": "mine" },
    { accept: "text/html" },
  ];
  for (const headers of odd) {
    const response = await call("GET", `/v1/sandboxes/${sandboxId}/files?path=/etc/os-release`, { headers });
    expect([200, 400]).toContain(response.status);
    expect(response.headers.get("x-request-id")).not.toBe("mine");
    await response.body?.cancel();
  }
});

it("refuses a report that its host has not signed", async () => {
  for (const authorization of [undefined, "Bearer x.y.z", `Bearer ${ADMIN_KEY}`]) {
    const request = new Request(`${ORIGIN}/v1/hosts/ho-aaaaaaaaaaaaaaaaaaaaaa/report`, {
      method: "POST",
      headers: { "content-type": "application/json", ...(authorization && { authorization }) },
      body: "{}",
    });
    await expectRefused(await send(request), 401);
  }
});
