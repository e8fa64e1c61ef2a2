import { beforeAll, describe, expect, it } from "vitest";
import { ERRORS } from "../../src/contract/errors.ts";
import { ADMIN_KEY, call, connectHost, operations, ORIGIN, problemOf, send } from "./client.ts";

const all = (await operations()).filter(({ scope }) => scope !== undefined);
const jsonOperations = all.filter(({ takesJson }) => takesJson);
/** What needs no body. */
const BODILESS = ["snapshotSandbox", "forkSandbox", "rotateHostKey"];

let sandboxId: string;

beforeAll(async () => {
  await connectHost();
  const created = await call("POST", "/v1/sandboxes", { json: {} });
  sandboxId = ((await created.json()) as { sandbox_id: string }).sandbox_id;
});

const fill = (path: string, id = sandboxId) => path.replace("{sandbox_id}", id).replace(/\{\w+\}/g, "main");

/** Every refusal is a problem document of the table, of a client's error. */
async function expectRefused(response: Response, ...statuses: number[]): Promise<void> {
  const problem = await problemOf(response);
  expect(response.status).toBe(problem.status);
  expect(ERRORS[problem.code].status).toBe(problem.status);
  expect(problem.request_id).toBe(response.headers.get("x-request-id"));
  expect(response.status, JSON.stringify(problem)).toBeGreaterThanOrEqual(400);
  expect(response.status, JSON.stringify(problem)).toBeLessThan(500);
  if (statuses.length > 0) expect(statuses, JSON.stringify(problem)).toContain(response.status);
  expect(JSON.stringify(problem)).not.toMatch(/\bat \S+ \(|\.ts:\d|SQLITE|drizzle/i);
}

const post = (method: string, path: string, body: BodyInit, type = "application/json") =>
  call(method, path, { body, headers: { "content-type": type } });

describe.each(jsonOperations)("the body of $operationId", ({ method, path, operationId }) => {
  const malformed = ["{", "nope", '{"a":}', "[1,]", '{"a":1}{"b":2}', "\u0000", "\ufeff{", "'single'", '{"a":"\\x"}'];
  it.each(malformed)("is refused when it is no JSON: %j", async (body) => {
    await expectRefused(await post(method, fill(path), body), 400);
  });

  it.each(["null", "[]", '"text"', "1", "true", "[[[[]]]]"])("is refused when it is no object: %s", async (body) => {
    await expectRefused(await post(method, fill(path), body), 400);
  });

  it.each(["nope", "__proto__", "constructor", "sandbox_id", "", "a.b"])(
    "is refused with the unknown field %j",
    async (field) => {
      const body = `{${JSON.stringify(field)}: {"x": 1}}`;
      await expectRefused(await post(method, fill(path), body), 400);
    },
  );

  it.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/octet-stream",
    "json",
    "application/jsonx",
    "application/json; charset=utf-16",
  ])("is refused as %s", async (type) => {
    await expectRefused(await post(method, fill(path), "{}", type), 415);
  });

  it("is refused when it is missing and needed", async () => {
    if (BODILESS.includes(operationId)) return;
    await expectRefused(await call(method, fill(path)), 400);
    await expectRefused(await call(method, fill(path), { headers: { "content-type": "application/json" } }), 400);
  });

  it("is refused when it is too long, also when it does not say how long it is", async () => {
    const long = JSON.stringify({ name: "x".repeat(3 * 1024 * 1024) });
    await expectRefused(await post(method, fill(path), long), 413);
    await expectRefused(await post(method, fill(path), new Blob([long]).stream()), 413);
  });

  it("is refused when it is nested without end", async () => {
    await expectRefused(await post(method, fill(path), `{"tags":${"[".repeat(20_000)}${"]".repeat(20_000)}}`), 400);
  });
});

const WRONG = [
  null,
  true,
  -1,
  0,
  1.5,
  1e308,
  "",
  "x".repeat(70_000),
  "\u0000",
  "\ud800",
  [],
  [null],
  [[]],
  [{}],
  {},
  { a: null },
  { "": "" },
  { "a=b": "c" },
];
const FIELDS = {
  createSandbox: [
    "app_id",
    "image",
    "entrypoint",
    "cpu",
    "memory",
    "gpu",
    "timeout",
    "idle_timeout",
    "encrypted_ports",
    "unencrypted_ports",
    "tags",
    "name",
    "env",
    "secrets",
    "workdir",
    "readiness_probe",
    "backend",
    "snapshot_on_end",
    "pty",
  ],
  execSandbox: ["command", "workdir", "stdin", "env", "timeout", "user", "pty", "open_stdin", "stdout", "stderr"],
  resizeProcess: ["rows", "cols"],
  createKey: ["name", "environment", "scopes"],
  createHost: ["name"],
  createSecret: ["name", "values"],
  replaceSecret: ["values"],
  updateHost: ["name", "draining"],
  rotateHostKey: ["revoke"],
  signalProcess: ["signal"],
  snapshotSandbox: ["name", "ttl"],
  forkSandbox: ["count", "ttl"],
} as const;
const ENOUGH: Record<string, object> = {
  execSandbox: { command: ["true"] },
  createKey: { name: "x", scopes: ["read"] },
  createHost: { name: "x" },
  createSecret: { name: "x", values: {} },
};

describe.each(Object.entries(FIELDS))("%s", (operationId, fields) => {
  it.each([...fields])("takes or refuses any %s, and never breaks", async (field) => {
    const { method, path } = jsonOperations.find((one) => one.operationId === operationId)!;
    for (const value of WRONG) {
      const response = await call(method, fill(path), { json: { ...ENOUGH[operationId], [field]: value } });
      if (response.ok) await response.body?.cancel();
      else await expectRefused(response, 400, 404, 409, 422);
    }
  });
});

describe("a field that is wrong", () => {
  const cases: [object, string][] = [
    [{ cpu: "1" }, "cpu"],
    [{ timeout: 0 }, "timeout"],
    [{ timeout: 86_401 }, "timeout"],
    [{ tags: { team: 1 } }, "tags.team"],
    [{ entrypoint: ["a", 1] }, "entrypoint.1"],
    [{ entrypoint: [] }, "entrypoint"],
    [{ encrypted_ports: [80, 65_536] }, "encrypted_ports.1"],
    [{ encrypted_ports: [80], unencrypted_ports: [80] }, "unencrypted_ports"],
    [{ env: { "1A": "x" } }, "env.1A"],
    [{ workdir: "tmp" }, "workdir"],
    [{ readiness_probe: { tcp: { port: 0 } } }, "readiness_probe.tcp.port"],
    [{ typo: 1 }, "typo"],
    [{ gpu: "H100:9" }, "gpu"],
    [{ name: "a b" }, "name"],
    [{ secrets: ["a", "b c"] }, "secrets.1"],
    [{ pty: {} }, "pty"],
    [{ pty: { rows: 0 }, entrypoint: ["x"] }, "pty.rows"],
  ];
  it.each(cases)("is named: %j", async (create, path) => {
    const problem = await problemOf(await call("POST", "/v1/sandboxes", { json: create }));
    expect(problem).toMatchObject({ status: 400, code: "invalid_request", detail: expect.any(String) });
    expect(problem.errors?.map((error) => error.path)).toContain(path);
    expect(problem.errors?.every(({ message }) => message.length > 0)).toBe(true);
  });

  const execCases: [object, string][] = [
    [{ user: "a b" }, "user"],
    [{ pty: { cols: 5000 } }, "pty.cols"],
    [{ pty: {}, stdout: "ignore" }, "stdout"],
    [{ pty: {}, stderr: "pipe" }, "stderr"],
    [{ stdout: "drop" }, "stdout"],
    [{ open_stdin: 1 }, "open_stdin"],
  ];
  it.each(execCases)("of an exec is named: %j", async (more, path) => {
    const json = { command: ["true"], ...more };
    const problem = await problemOf(await call("POST", `/v1/sandboxes/${sandboxId}/exec`, { json }));
    expect(problem).toMatchObject({ status: 400, errors: [{ path }] });
  });
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
const BODIES: Record<string, object> = {
  execSandbox: { command: ["true"] },
  signalProcess: { signal: "SIGTERM" },
  resizeProcess: { rows: 24, cols: 80 },
  replaceSecret: { values: {} },
};
const QUERIES: Record<string, string> = { readSandboxFile: "?path=/x", writeSandboxFile: "?path=/x" };

describe.each(all.filter(({ path }) => path.includes("{")))(
  "an id that is none at $method $path",
  ({ method, path, operationId, takesJson, headers }) => {
    it.each(BAD_IDS)("is not found: %s", async (id) => {
      const target = path.replaceAll(/\{\w+\}/g, id) + (QUERIES[operationId] ?? "");
      const options = { headers, ...(takesJson && { json: BODIES[operationId] ?? {} }) };
      await expectRefused(await call(method, target, options), 404);
    });
  },
);

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
    ["POST", "/v1/sandboxes/x/files", "GET, HEAD, PUT"],
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
  });

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
