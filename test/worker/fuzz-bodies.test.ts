import { beforeAll, describe, expect, it } from "vitest";
import { call, problemOf } from "./client.ts";
import { all, expectRefused, fuzzedSandbox } from "./fuzz.ts";

const jsonOperations = all.filter(({ takesJson }) => takesJson);
/** What needs no body. */
const BODILESS = ["snapshotSandbox", "forkSandbox", "rotateHostKey", "commitVolumes", "reloadVolumes"];

let sandboxId: string;

beforeAll(async () => {
  sandboxId = await fuzzedSandbox();
});

const fill = (path: string) => path.replace("{sandbox_id}", sandboxId).replace(/\{\w+\}/g, "main");

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
    "volumes",
    "workdir",
    "readiness_probe",
    "backend",
    "block_network",
    "outbound_cidr_allowlist",
    "outbound_domain_allowlist",
    "inbound_cidr_allowlist",
    "tunnel_auth",
    "egress_headers",
    "snapshot_on_end",
    "pty",
  ],
  updateSandbox: [
    "tags",
    "timeout",
    "idle_timeout",
    "name",
    "block_network",
    "outbound_cidr_allowlist",
    "outbound_domain_allowlist",
    "inbound_cidr_allowlist",
  ],
  execSandbox: ["command", "workdir", "stdin", "env", "timeout", "user", "pty", "open_stdin", "stdout", "stderr"],
  resizeProcess: ["rows", "cols"],
  createKey: ["name", "environment", "scopes"],
  createHost: ["name"],
  createSecret: ["name", "values"],
  replaceSecret: ["values"],
  createVolume: ["name"],
  commitVolumes: ["paths"],
  reloadVolumes: ["paths"],
  updateHost: ["name", "draining"],
  rotateHostKey: ["revoke"],
  signalProcess: ["signal"],
  snapshotSandbox: ["name", "ttl"],
  forkSandbox: ["count", "ttl"],
  createSandboxDirectory: ["path", "parents"],
  moveSandboxFile: ["from", "to"],
} as const;
const ENOUGH: Record<string, object> = {
  execSandbox: { command: ["true"] },
  createKey: { name: "x", scopes: ["read"] },
  createHost: { name: "x" },
  createSecret: { name: "x", values: {} },
  createSandboxDirectory: { path: "/x" },
  moveSandboxFile: { from: "/x", to: "/y" },
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
    [{ volumes: { "/a": { volume_id: "a b" } } }, "volumes./a.volume_id"],
    [{ volumes: { "/a": { volume_id: "a", typo: 1 } } }, "volumes./a.typo"],
    [{ volumes: { "/a": "a" } }, "volumes./a"],
    [{ volumes: { a: { volume_id: "a" } } }, "volumes.a"],
    [{ pty: {} }, "pty"],
    [{ pty: { rows: 0 }, entrypoint: ["x"] }, "pty.rows"],
    [{ outbound_cidr_allowlist: ["10.0.0.0/8", "10.0.0.1"] }, "outbound_cidr_allowlist.1"],
    [{ outbound_domain_allowlist: ["a.example", "a b"] }, "outbound_domain_allowlist.1"],
    [{ egress_headers: [{ domain: "a.example", header: "Host", secret: "s" }] }, "egress_headers.0.header"],
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
