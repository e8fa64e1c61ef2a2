import { isIPv4, isIPv6 } from "node:net";
import { LabelsSchema, RegionSchema } from "../contract/fields.ts";
import { parseJoinToken, type JoinToken } from "../contract/host-token.ts";
import { DEFAULT_WINDOW_BYTES } from "./logs/process-log.ts";
import { UsageError } from "./usage.ts";

const MIB = 1_048_576;
const MAX_WINDOW_MIB = 1024;
const MAX_CACHE_MIB = 2 ** 30;
const MAX_PORT = 65_535;
const MAX_OVERCOMMIT = 1024;
const MAX_MEMORY_MIB = 2 ** 40;
const RUNTIMES = ["auto", "docker", "embedded"] as const;

/** What an operator sets of a host, by flag, and the variables that say the same. */
export const OPTIONS = {
  url: "SANDBAR_CONTROL_PLANE",
  token: "SANDBAR_TOKEN",
  listen: "SANDBAR_LISTEN",
  advertise: "SANDBAR_ADVERTISE",
  runtime: "SANDBAR_RUNTIME",
  region: "SANDBAR_REGION",
  label: "SANDBAR_LABELS",
  "cpu-overcommit": "SANDBAR_CPU_OVERCOMMIT",
  memory: "SANDBAR_MEMORY",
  "log-window": "SANDBAR_LOG_WINDOW",
  "volume-cache": "SANDBAR_VOLUME_CACHE",
  dns: "SANDBAR_DNS",
} as const;

/** As somebody typed them; several labels, and several name servers, by commas. */
export type GivenOptions = { [name in keyof typeof OPTIONS]?: string };

/** What they mean. */
export interface HostOptions extends JoinToken {
  controlPlaneUrl: string;
  listen: { host: string; port: number };
  advertiseUrl: string | undefined;
  runtime: (typeof RUNTIMES)[number];
  region: string | undefined;
  labels: Record<string, string> | undefined;
  promised: { cpuOvercommit: number | undefined; memory: number | undefined };
  /** Output kept of each stream of a process. */
  windowBytes: number;
  /** Of volumes, kept for the next sandbox that mounts them; undefined: as the disk is. */
  volumeCacheBytes: number | undefined;
  /** As `ADDRESS`, or `ADDRESS:PORT` with brackets around one of IPv6; undefined: those of the machine. */
  nameServers: string[] | undefined;
}

/** Throws {@link UsageError}, naming the flag. */
export function readOptions(given: GivenOptions): HostOptions {
  if (given.url === undefined)
    throw new UsageError(
      "--url, which is --control-plane (or SANDBAR_CONTROL_PLANE), is missing: this host has not joined",
    );
  if (given.token === undefined) throw new UsageError("--token (or SANDBAR_TOKEN) is missing");
  const join = parseJoinToken(given.token);
  if (!join) throw new UsageError("--token is no join token: it has the form ho-….… and comes from the control plane");
  const runtime = given.runtime ?? "auto";
  if (!isRuntime(runtime)) throw new UsageError(`--runtime must be one of ${RUNTIMES.join(", ")}, not "${runtime}"`);
  const listen = parseListen(given.listen ?? "127.0.0.1:8788");
  if (given.advertise === undefined && ["0.0.0.0", "::"].includes(listen.host)) {
    throw new UsageError(`--advertise is missing: ${listen.host} is no address that the control plane can call`);
  }
  return {
    controlPlaneUrl: parseUrl("--url", given.url),
    ...join,
    listen,
    advertiseUrl: given.advertise === undefined ? undefined : parseUrl("--advertise", given.advertise),
    runtime,
    region: given.region === undefined ? undefined : parseRegion(given.region),
    labels: given.label === undefined ? undefined : parseLabels(given.label),
    promised: {
      cpuOvercommit: parseNumber("--cpu-overcommit", given["cpu-overcommit"], { min: 1, max: MAX_OVERCOMMIT }),
      memory: parseNumber("--memory", given.memory, { min: 1, max: MAX_MEMORY_MIB, unit: "MiB" }),
    },
    windowBytes: bytesOf("--log-window", given["log-window"], { min: 1, max: MAX_WINDOW_MIB }) ?? DEFAULT_WINDOW_BYTES,
    volumeCacheBytes: bytesOf("--volume-cache", given["volume-cache"], { min: 0, max: MAX_CACHE_MIB }),
    nameServers: given.dns?.split(",").map((server) => parseNameServer(server.trim())),
  };
}

export function parseUrl(option: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.search || url.hash) {
    throw new UsageError(`${option} must be an http(s) URL, not "${text}"`);
  }
  return url.href.replace(/\/+$/, "");
}

const isRuntime = (text: string): text is HostOptions["runtime"] => (RUNTIMES as readonly string[]).includes(text);

function parseListen(text: string): HostOptions["listen"] {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > MAX_PORT) throw new UsageError(`--listen must be HOST:PORT, not "${text}"`);
  return { host: (match[1] ?? match[2])!, port };
}

function parseNameServer(text: string): string {
  const [, bracketed, plain, port] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const isServer = isIPv6(text) || ((isIPv6(bracketed ?? "") || isIPv4(plain ?? "")) && Number(port ?? 53) <= MAX_PORT);
  if (!isServer) throw new UsageError(`--dns must be ADDRESS or ADDRESS:PORT, not "${text}"`);
  return text;
}

function parseRegion(text: string): string {
  const region = RegionSchema.safeParse(text);
  if (!region.success) throw new UsageError(`--region must be 1 to 64 of a-z 0-9 -, not "${text}"`);
  return region.data;
}

function parseLabels(text: string): Record<string, string> {
  const pairs = text.split(",").map((pair) => {
    const at = pair.indexOf("=");
    if (at < 0) throw new UsageError(`--label must be KEY=VALUE, not "${pair}"`);
    return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()] as const;
  });
  const labels = LabelsSchema.safeParse(Object.fromEntries(pairs));
  if (labels.success) return labels.data;
  const [{ path, message, code, ...issue }] = labels.error.issues as [(typeof labels.error.issues)[number]];
  const reason = code === "invalid_key" && "issues" in issue ? issue.issues[0]?.message : message;
  throw new UsageError(`--label${path.length > 0 ? ` "${path.join(".")}"` : ""} ${reason}`);
}

/** Whole numbers where there is a unit. */
function parseNumber(
  option: string,
  text: string | undefined,
  { min, max, unit }: { min: number; max: number; unit?: string },
): number | undefined {
  if (text === undefined) return undefined;
  const number = (unit ? /^\d+$/ : /^\d+(\.\d+)?$/).test(text) ? Number(text) : Number.NaN;
  if (number >= min && number <= max) return number;
  throw new UsageError(`${option} must be ${min} to ${max}${unit ? ` (${unit})` : ""}, not "${text}"`);
}

function bytesOf(option: string, text: string | undefined, limits: { min: number; max: number }): number | undefined {
  const mib = parseNumber(option, text, { ...limits, unit: "MiB" });
  return mib === undefined ? undefined : mib * MIB;
}
