import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { ADMIN_KEY, call, type CallOptions, connectHost, HOST_ID, newKey, problemOf, forgetHosts } from "./client.ts";
import { firstOf, HEADERS, many, RULES, x, type Limit } from "./limit-rows.ts";
import { exec, startSandbox, terminate } from "./sandboxes.ts";

type Send = (fields: object) => Promise<Response>;

/** The fields with the value at the path; `0` is the only place of a list. */
function put(fields: unknown, [name, ...rest]: string[], value: unknown): unknown {
  if (name === undefined) return value;
  if (name === "0") return [put((fields as unknown[] | undefined)?.[0], rest, value)];
  const all = (fields ?? {}) as Record<string, unknown>;
  return { ...all, [name]: put(all[name], rest, value) };
}

const short = (text = "left out") => text.replace(/^(.{20}).{20,}(.{4})$/su, `$1…$2 (${text.length})`);

/** Every value inside is taken; every value outside is refused in the name of its field, and leaves `state` as it was. */
function keeps(limits: Limit[], send: Send, status: number, state: () => Promise<unknown>, refused = send): void {
  const rows = (side: 1 | 2) =>
    limits.flatMap((limit) =>
      limit[0].split("|").flatMap((path) =>
        limit[side].map((value) => {
          const fields = put(limit[3], path.split("."), value) as object;
          return [short(path), short(JSON.stringify(value)), fields, path] as const;
        }),
      ),
    );
  it.each(rows(1))("takes %s: %s", async (_path, _value, fields) => {
    const response = await send(fields);
    expect(response.status, await response.clone().text()).toBe(status);
  });
  it.each(rows(2))("refuses %s: %s", async (_path, _value, fields, path) => {
    const before = await state();
    const response = await refused(fields);
    expect(response.status, await response.clone().text()).toBe(400);
    const { code, errors } = await problemOf(response);
    expect([code, ...new Set(errors?.map((error) => error.path))]).toEqual(["invalid_request", path]);
    expect(await state()).toEqual(before);
  });
}

const words = (count: number) => ["x", ...many(count - 1, () => "")];
const tags = (count: number) => Object.fromEntries(many(count, (at) => [`k${at}`, ""]));
const ports = (count: number) => many(count, (at) => 80 + at);
const base64 = (bytes: number) => "A".repeat(Math.ceil((bytes * 4) / 3)) + "=".repeat((3 - (bytes % 3)) % 3);

const SECONDS = [1, 86_400];
const NO_SECONDS = [0, -1, 86_401, 1.5, "1"];
const COMMANDS = [["x"], ["x", ""], [x(65_536)], [x(32_768), x(32_768)], ["€".repeat(21_845), "x"], words(16_384)];
const NO_COMMANDS = [[], "x", [""], ["", "x"], [x(65_536), "x"], ["€".repeat(21_845), "xx"], words(16_385)];
const GPUS = "T4 L4 A10 A10G L40S A100 A100-40GB A100-80GB RTX-PRO-6000 H100 H100! H200 B200 B300 any";
const NO_GPUS = "H100:0 H100:9 H100:10 H100:01 H100:-1 H100:1.5 H100: T4! T4, ,T4 T4,,L4 T4;L4";
const [LONG, WIDE] = ["/x".repeat(2048), "/é".repeat(1365)];
const NO_OFFSETS = ["-1", "1.5", "x", "", "9007199254740992"];

const NAME: Limit = ["name", ["a", "A.z_0-9", x(64)], ["", x(65), "a b", "a/b", "é", "a\n", 1, null]];
const TTL: Limit = ["ttl", [60, 315_360_000, null], [59, 315_360_001, 60.5, "60"]];
const LABEL: Limit = ["name", ["a", x(128)], ["", x(129), 1, undefined]];
const PATH: Limit = ["path", ["/a b/é", LONG, `${WIDE}x`], ["", "a", "./a", "~/a", `${LONG}x`, `${WIDE}xx`, "/a\0"]];
const SIZE: Limit = ["rows|cols", [1, 4096], [0, 4097, 1.5, "80"]];
const WAIT: Limit = ["wait", ["0", "0.5", "600"], ["-1", "601", "600.5", "x", ""]];
const OFFSET: Limit = ["offset", ["0", String(Number.MAX_SAFE_INTEGER)], NO_OFFSETS];
const FOLLOW: Limit = ["follow", ["false", "true"], ["", "1", "yes", "True"]];
const KEY: Limit = ["Idempotency-Key", ["!", "~", x(255)], ["", x(256), "a b", "é"]];
const ENV: Limit[] = [
  ["env.A|env._a1", ["", "é=\n"], ["a\0", 1]],
  ["env.|env.1A|env.A-B|env.A B|env.É|env.A=", [], ["x"]],
  ["env", [{}, { A: x(262_141) }, { A: "é".repeat(131_070) }], [{ A: x(262_142) }, { A: "é".repeat(131_071) }, null]],
];
const VALUES = ENV.map(([paths, ...rest]): Limit => [paths.replaceAll("env", "values"), ...rest]);
const TAGS: Limit[] = [
  ["tags", [{}, tags(50), { [x(128)]: x(128), a: "b=" }, { a: "😀".repeat(128) }], [tags(51), [], null]],
  ["tags.a", [], [x(129), "😀".repeat(129), 1]],
  [`tags.${x(129)}|tags.a=b|tags.`, [], [""]],
];
const terminal = (beside?: object): Limit[] => [
  ["pty", [{}], [null], beside],
  ["pty.rows|pty.cols", SIZE[1], SIZE[2], beside],
  ["pty.width", [], [80], beside],
];
const TCP_PROBE = { readiness_probe: { tcp: { port: 80 } } };
const CREATE: Limit[] = TAGS.concat(ENV, RULES, HEADERS, terminal({ entrypoint: ["x"] }), [
  ["inbound_cidr_allowlist|outbound_cidr_allowlist|outbound_domain_allowlist", [], [null]],
  ["block_network", [true], [], { outbound_cidr_allowlist: undefined }],
  ["block_network", [false], [true], { outbound_cidr_allowlist: [] }],
  ["tunnel_auth", ["none", "token"], ["", "basic", true, null]],
  ["timeout|idle_timeout", SECONDS, [...NO_SECONDS, null]],
  NAME,
  ["app_id", ["a", x(128)], ["", x(129), 1]],
  ["image", ["a", "python:3.12-slim", x(512)], ["", x(513), "-a", "a b"]],
  ["entrypoint|readiness_probe.exec.command", COMMANDS, NO_COMMANDS],
  ["entrypoint.0|readiness_probe.exec.command.0", [], ["x\0", 1]],
  ["secrets", [[]], [many(21, (at) => `s${at}`), "x", null]],
  ["secrets.0", [], ["", "a b", x(65), 1, null]],
  ["workdir", PATH[1], PATH[2]],
  ["gpu", [...GPUS.split(" "), "h100:8", "h200, any", "H100!,A100-80GB:2"], [...NO_GPUS.split(" "), "", "T4 L4", 1]],
  ["cpu", [0.01, 0.125, 1024], [0, 0.009, 1024.1, -1, "1"]],
  ["memory", [8, 128, 16_777_216], [7, 16_777_217, 128.5, "128"]],
  ["encrypted_ports|unencrypted_ports", [[], [1, 65_535], ports(32)], [ports(33), [80, 80], 80]],
  ["encrypted_ports.0|unencrypted_ports.0", [], [0, 65_536, 80.5, "80"]],
  ["unencrypted_ports", [[81]], [[80]], { encrypted_ports: [80] }],
  ["readiness_probe.tcp.port", [1, 65_535], [0, 65_536, "80", undefined]],
  ["readiness_probe.tcp", [], [undefined], { readiness_probe: {} }],
  ["readiness_probe.exec", [], [{ command: ["x"] }], TCP_PROBE],
  ["readiness_probe.interval_ms", [10, 60_000], [9, 60_001, 10.5], TCP_PROBE],
  ["readiness_probe.interval_ms", [10, 60_000], [9, 60_001], { readiness_probe: { exec: { command: ["x"] } } }],
  ["region", ["weur", "a-1", x(64)], ["", x(65), "WEUR", "eu_1"]],
  ["backend", ["docker"], ["podman", "", null]],
  ["block_network|snapshot_on_end", [true, false], ["true", 1]],
  ["pty", [], [{}]],
  ["idle_timout", [], [1]],
]);
const EXEC: Limit[] = ENV.concat(terminal(), [
  ["command", COMMANDS, [...NO_COMMANDS, undefined]],
  ["command.0", [], ["x\0", 1]],
  ["workdir", PATH[1], PATH[2]],
  ["timeout", SECONDS, [...NO_SECONDS, null]],
  ["user", ["root", "1000:1000", `${x(32)}:${x(32)}`], ["", x(33), `x:${x(33)}`, "a:", "a b"]],
  ["stdin", ["", base64(1_048_576)], [base64(1_048_577), base64(1_048_578), base64(1_048_579), "a", "YQ", "YQ==\n"]],
  ["stdout|stderr", ["pipe", "ignore"], ["drop", null]],
  ["workdri", [], ["/"]],
]);
/** The fields of a list, and a cursor that one can have given. */
const page = (cursor = btoa("1.sb-a")): Limit[] => [
  ["limit", ["1", "1000"], ["0", "1001", "-1", "1.5", "x", "", "0x10"]],
  ["cursor", [cursor], ["", "!!", "YWJj", x(257)]],
  ["ofset", [], ["1"]],
];
const LIST: Limit[] = [
  ["tag", [many(20, () => "a")], [many(21, () => "a")]],
  ["tag.0", ["a", "a=", "a=b=c", `${x(128)}=${x(128)}`], ["", x(258)]],
  ["state.0", "created scheduled started ready finished terminated live ended".split(" "), ["", "Ready"]],
  ["name", NAME[1], ["", x(65), "a b"]],
  ["app_id", ["a", x(128)], [x(129)]],
];
const NEW_KEY: Limit[] = [
  LABEL,
  ["environment", ["a", "0-a", x(63)], ["", x(64), "A", "-a", "a-", "a_b"]],
  ["scopes", [["read"], ["read", "write", "admin"]], [[], many(4, () => "read"), "read", undefined]],
  ["scopes.0", [], ["root"]],
];
/** Paths that are known once the sandboxes run. */
const places: Record<string, string> = {};
const at = (path: string) => path.replace(/\{(\w+)\}/, (_, place: string) => places[place]!);
afterAll(() => Promise.all(["{sandbox}", "{waiting}"].map((path) => call("DELETE", at(path)))));
async function read(path: string, key = ADMIN_KEY): Promise<unknown> {
  const response = await call("GET", at(path), { key });
  expect(response.status).toBe(200);
  return response.json();
}
/** Sends fields in the query of an operation that ends with `?`, else in its body; an idempotency key in its header. */
const sender = (operation: string, options: CallOptions = {}): Send => {
  return (fields) => {
    const [method, path] = at(operation).split(" ") as [string, string];
    if (KEY[0] in fields) return call(method, path, { ...options, headers: { ...fields } });
    const json = { ...(options.json as object), ...fields };
    if (!path.endsWith("?")) return call(method, path, { ...options, json });
    const all = Object.entries(fields).flatMap(([name, value]) => [value].flat().map((one) => [name, String(one)]));
    return call(method, path + new URLSearchParams(all), options);
  };
};

/** Makes a sandbox of the fields, does with it what there is to do, and ends it. */
async function create(fields: object, use?: (path: string) => Promise<Response>): Promise<Response> {
  const response = await sender("POST /v1/sandboxes", { json: {} })(fields);
  if (response.status !== 201) return response;
  const { sandbox_id } = (await response.clone().json()) as Sandbox;
  const answer = (await use?.(`/v1/sandboxes/${sandbox_id}`)) ?? response;
  await terminate(sandbox_id);
  return answer;
}

describe("POST /v1/sandboxes", () => {
  let key: string;
  beforeAll(async () => {
    await forgetHosts();
    ({ key } = await newKey(["write"], "refused"));
  });
  const refused: Send = (fields) => sender("POST /v1/sandboxes", { json: {}, key })(fields);
  keeps([...CREATE, KEY], create, 201, () => read("/v1/sandboxes", key), refused);
});

const COMMAND = { json: { command: ["true"] } };
const ENCODING: Limit = ["encoding", ["utf8", "base64"], ["", "latin1"]];
const MODES: Limit = ["mode", ["000", "644", "7777"], ["", "64", "888", "77777", "rwx", "-1"], { path: "/f" }];
const LISTED: Limit[] = [
  ["depth", ["1", "100"], ["0", "101", "-1", "1.5", "x", ""], { path: "/" }],
  ["limit", ["1", "10000"], ["0", "10001", "-1", "1.5", "x", ""], { path: "/" }],
  [
    "cursor",
    [btoa("/a"), "L8Op", btoa(`/${x(8191)}`)],
    ["", "!!", "YWJj", btoa("/a\0"), x(10), btoa(`/${x(8192)}`), x(12_001)],
    { path: "/" },
  ],
  ["after", [], ["/a"], { path: "/" }],
];
const DIRECTORY: Limit = ["path", ["/d/é", `/d${"/y".repeat(2047)}`], [...PATH[2], 1, null]];
const PARENTS: Limit = ["parents", [true], ["true", 1, null]];
const INTO: Limit = ["to", [], ["/a/b", "/a//b", "/./a/b/", "/a/b/c"], { from: "/a/" }];
const RECURSIVE: Limit = ["recursive", [], FOLLOW[2], { path: "/f" }];
const TABLE: [operation: string, limits: Limit[], options?: CallOptions, status?: number][] = [
  ["POST {sandbox}/exec", [...EXEC, KEY], COMMAND],
  ["POST {sandbox}/exec?", [WAIT, ENCODING], COMMAND],
  ["GET /v1/sandboxes?", [...page(), ...LIST]],
  ["GET /v1/images?", [...page(), ["kind", ["snapshot", "pushed", "deployed"], ["x"]]]],
  ["GET /v1/keys?", page()],
  ["GET /v1/hosts?", page()],
  ["GET /v1/secrets?", page()],
  ["GET {sandbox}/processes?", page("p1")],
  ["GET {done}?", [WAIT]],
  ["GET {done}/stdout?", [OFFSET, FOLLOW]],
  ["GET {done}/stderr?", [OFFSET, FOLLOW]],
  ["GET {done}/events?", [["last_event_id", ["0.0"], ["", "1", "1.-2", "1.5.2"]]]],
  ["GET {cat}/attach?", [["stdout_offset|stderr_offset", [], NO_OFFSETS]], { headers: { upgrade: "websocket" } }],
  ["POST {cat}/stdin?", [["offset", ["0"], NO_OFFSETS]]],
  ["POST {cat}/stdin?", [["eof", FOLLOW[1], FOLLOW[2]]]],
  ["POST {terminal}/resize", [SIZE, ["rows|cols", [], [undefined]]], { json: { rows: 24, cols: 80 } }, 204],
  ["POST {terminal}/signal", [["signal", ["SIGWINCH"], ["", "SIGNOPE", "sigint", 9, undefined]]], {}, 204],
  ["PUT {sandbox}/files?", [PATH, MODES], { body: "x" }, 204],
  ["GET {sandbox}/files?", [PATH]],
  ["GET {sandbox}/files/stat?", [PATH]],
  ["GET {sandbox}/files/list?", [["path", ["/"], PATH[2]], ...LISTED]],
  ["POST {sandbox}/files/directories", [DIRECTORY, PARENTS, KEY], { json: { path: "/d", parents: true } }, 201],
  ["POST {sandbox}/files/move", [["from|to", [], PATH[2]], INTO], { json: { from: "/f", to: "/g" } }, 204],
  ["DELETE {sandbox}/files?", [["path", ["/f"], [...PATH[2], "/", "//", "/./", "/..", "/../."]], RECURSIVE], {}, 204],
  ["GET {sandbox}/files/watch?", [["path", [], PATH[2]], RECURSIVE]],
  ["GET {sandbox}/files/archive?", [["path", ["/etc", "/etc/os-release"], PATH[2]]]],
  ["PUT {sandbox}/files/archive?", [["path", ["/d/e"], PATH[2]]], { body: new Uint8Array(1024) }, 204],
  ["POST {sandbox}/snapshot", [NAME, TTL, KEY], { json: {} }],
  ["POST {sandbox}/fork", [TTL, ["count", [1, 2], [0, 101, 1.5, "1", null]], KEY], { json: {} }, 201],
  ["POST /v1/keys", [...NEW_KEY, KEY], { json: { name: "x", scopes: ["read"] } }, 201],
  ["POST /v1/secrets", [NAME, ["name", [], [`se-${x(22)}`]]], { json: { values: {} } }, 201],
  ["POST /v1/secrets", [["values", [], [undefined, null]]], { json: { name: "x" } }, 201],
  [
    "PUT {secret}",
    [...VALUES, ["values.NVIDIA_VISIBLE_DEVICES", [], ["all"]], ["name", [], ["x"]]],
    { json: { values: {} } },
  ],
  ["POST /v1/hosts", [LABEL, KEY], { json: { name: "x" } }, 201],
];

describe("a sandbox that runs", () => {
  beforeAll(async () => {
    await connectHost(HOST_ID, Date.now() + 600_000); // It reports but once.
    const sandboxId = await startSandbox();
    const start = async (request: object) =>
      `/v1/sandboxes/${sandboxId}/processes/${(await exec(sandboxId, request, "?wait=0.1")).process_id}`;
    places["sandbox"] = `/v1/sandboxes/${sandboxId}`;
    places["done"] = await start({ command: ["true"] });
    places["cat"] = await start({ command: ["cat"], open_stdin: true });
    const secret = await call("POST", "/v1/secrets", { json: { name: "replaced", values: {} } });
    places["secret"] = `/v1/secrets/${((await secret.json()) as { secret_id: string }).secret_id}`;
    places["terminal"] = await start({ command: ["sh", "-c", "read line"], pty: {} });
  });
  const STATE = ["{sandbox}", "{sandbox}/processes?limit=1000", "/v1/images", "/v1/keys", "/v1/hosts", "/v1/secrets"];
  // How a host stands changes by itself: it does not report again.
  const standing = { state: undefined };
  const withoutStanding = (page: unknown) =>
    (page as { data: object[] }).data.map((one) => Object.assign(one, standing));
  const state = () =>
    Promise.all(STATE.map(async (path) => (path === "/v1/hosts" ? withoutStanding(await read(path)) : read(path))));
  describe.each(TABLE)("%s", (operation, limits, options, status = 200) => {
    keeps(limits, sender(operation, options), status, state);
  });
});

const PATCH = TAGS.concat(firstOf(RULES), [
  ["inbound_cidr_allowlist|outbound_cidr_allowlist|outbound_domain_allowlist", [null], []],
  ["block_network", [true, false], ["true", null]],
  ["block_network", [false], [true], { outbound_domain_allowlist: [] }],
  ["tunnel_auth|egress_headers", [], ["token", []]],
  ["timeout", SECONDS, [...NO_SECONDS, null]],
  ["idle_timeout", [...SECONDS, null], NO_SECONDS],
  ["image", [], ["x"]],
  NAME,
]);
const EVENTS: Limit[] = [["last_event_id", ["0", "1"], ["-1", "1.5", "x", ""]], FOLLOW];
const UNTIL: Limit = ["until", ["ready", "ended"], ["", "started"], { timeout: "0" }];
const UNTIL_TIMEOUT: Limit = ["timeout", ["0", "600"], ["-1", "601", "x", ""], { until: "ended" }];

describe("a sandbox that is changed and watched", () => {
  beforeAll(async () => {
    await forgetHosts();
    await create({}, async (path) => call("DELETE", (places["ended"] = path)));
    const waiting = await sender("POST /v1/sandboxes")({ tags: { a: "b" } });
    places["waiting"] = `/v1/sandboxes/${((await waiting.json()) as Sandbox).sandbox_id}`;
  });
  const state = () => read("{waiting}");
  const patch: Send = (json) => create({}, (path) => call("PATCH", path, { json }));
  describe("PATCH {sandbox}", () => keeps(PATCH, patch, 200, state, sender("PATCH {waiting}")));
  describe("GET {ended}/wait?", () => keeps([UNTIL, UNTIL_TIMEOUT], sender("GET {ended}/wait?"), 200, state));
  describe("GET {ended}/events?", () => keeps(EVENTS, sender("GET {ended}/events?"), 200, state));
});
