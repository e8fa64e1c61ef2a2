import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { deriveHostKey, formatJoinToken } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { parseArguments, type HostArguments } from "../../src/host/arguments.ts";
import { readJoinFile, writeJoinFile } from "../../src/host/join-file.ts";
import { UsageError } from "../../src/host/usage.ts";

const dataDir = mkdtempSync("/tmp/sandbar-arguments-");
const hostId = newId("host");
const token = formatJoinToken(hostId, await deriveHostKey("a-signing-secret", hostId));
const REQUIRED = ["--url", "https://sandbar.test/", "--token", token];
afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

const host = (args: string[], env: NodeJS.ProcessEnv = {}) =>
  parseArguments(["host", "--data-dir", dataDir, ...args], env) as HostArguments;

test("a host is described by flags or variables, the flags first", () => {
  const flags = ["--region", "eu-west", "--label", "disk=nvme", "--label", "rack=7", "--cpu-overcommit", "1.5"];
  const expected = {
    controlPlaneUrl: "https://sandbar.test",
    hostId,
    region: "eu-west",
    labels: { disk: "nvme", rack: "7" },
    promised: { cpuOvercommit: 1.5, memory: 65_536 },
    join: undefined,
  };
  expect(host([...REQUIRED, ...flags, "--memory", "65536"])).toMatchObject(expected);
  const env = {
    SANDBAR_CONTROL_PLANE: "https://sandbar.test",
    SANDBAR_TOKEN: token,
    SANDBAR_REGION: "us",
    SANDBAR_LABELS: "disk=nvme,rack=7",
    SANDBAR_CPU_OVERCOMMIT: "1.5",
    SANDBAR_MEMORY: "65536",
    SANDBAR_VOLUME_CACHE: "2048",
  };
  expect(host(["--region", "eu-west"], env)).toMatchObject({ ...expected, volumeCacheBytes: 2 ** 31 });
  const [, url, , ownToken] = REQUIRED as [string, string, string, string];
  expect(host(["--control-plane", url, "--token", ownToken])).toMatchObject({
    controlPlaneUrl: "https://sandbar.test",
    region: undefined,
    labels: undefined,
    promised: { cpuOvercommit: undefined, memory: undefined },
    volumeCacheBytes: undefined,
  });
});

test("several name servers are given by several flags, or in a variable by commas", () => {
  const servers = ["192.0.2.1", "192.0.2.2:5353", "2001:db8::1", "[2001:db8::2]:5353"];
  expect(host([...REQUIRED, ...servers.flatMap((server) => ["--dns", server])]).nameServers).toEqual(servers);
  expect(host(REQUIRED, { SANDBAR_DNS: servers.join(", ") }).nameServers).toEqual(servers);
  expect(host(REQUIRED).nameServers).toBeUndefined();
});

test.each([
  [["--region", "EU West"], /--region must be/],
  [["--region", ""], /--region must be/],
  [["--label", "disk"], /--label must be KEY=VALUE, not "disk"/],
  [["--label", "=x"], /--label .*must be 1 to 63/],
  [["--label=-a=x"], /--label .*"-a".*must be 1 to 63/],
  [["--label", "a=b c"], /--label "a" must be at most 63/],
  [Array.from({ length: 33 }, (_, n) => ["--label", `k${n}=v`]).flat(), /--label must not hold more than 32/],
  [["--cpu-overcommit", "0.5"], /--cpu-overcommit must be 1 to/],
  [["--cpu-overcommit", "many"], /--cpu-overcommit must be/],
  [["--cpu-overcommit", "1e9"], /--cpu-overcommit must be/],
  [["--memory", "0"], /--memory must be 1 to/],
  [["--memory", "1.5"], /--memory must be/],
  [["--memory", "64G"], /--memory must be .*MiB.*"64G"/],
  [["--log-window", "0"], /--log-window must be 1 to 1024/],
  [["--volume-cache", "1G"], /--volume-cache must be 0 to .*MiB.*"1G"/],
  [["--dns", "example.com"], /--dns must be ADDRESS/],
  [["--dns", "192.0.2.1:70000"], /--dns must be ADDRESS/],
  [["--dns", "192.0.2.1", "--dns", ""], /--dns must be ADDRESS/],
  [["--no-run"], /--no-run is for sandbar host join/],
  [["--control-plane", "https://other.test"], /are the same/],
  [["join", "again"], /unexpected argument "again"/],
  [["leave"], /unexpected argument "leave"/],
])("%j is refused", (args, message) => {
  const parse = () => host([...REQUIRED, ...args]);
  expect(parse).toThrow(UsageError);
  expect(parse).toThrow(message);
});

test("what a host has joined with is used where nothing else is given", () => {
  expect(() => host([])).toThrow(/--url.*has not joined/);
  const join = host(["join", ...REQUIRED, "--region", "eu", "--label", "a=b", "--memory", "512", "--no-run"]);
  expect(join.join).toEqual({
    isRun: false,
    options: { url: "https://sandbar.test/", token, region: "eu", label: "a=b", memory: "512" },
  });
  writeJoinFile(dataDir, join.join!.options);
  expect(statSync(`${dataDir}/join.json`).mode & 0o777).toBe(0o600);
  expect(host([])).toEqual({ ...join, join: undefined });
  expect(host(["--memory", "1024"], { SANDBAR_REGION: "us" })).toMatchObject({
    hostId,
    region: "us",
    labels: { a: "b" },
    promised: { memory: 1024 },
  });
  // A second join begins anew.
  expect(host(["join", ...REQUIRED])).toMatchObject({ region: undefined, labels: undefined, join: { isRun: true } });
  expect(() => host(["join"])).toThrow(/--url/);
});

test.each(["{", "[]", '{"url": 7}', '{"secret": "x"}'])("a broken file is no riddle: %s", (content) => {
  writeFileSync(`${dataDir}/join.json`, content);
  chmodSync(`${dataDir}/join.json`, 0o600);
  expect(() => readJoinFile(dataDir)).toThrow(/join\.json cannot be used .*: join this host anew/s);
  expect(host(["join", ...REQUIRED]).hostId).toBe(hostId);
});
