import { homedir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { parseJoinToken } from "../contract/host-token.ts";
import { DEFAULT_WINDOW_BYTES } from "./logs/process-log.ts";

export const USAGE = `Usage: sandbar host --control-plane URL --token TOKEN [options]

Runs sandboxes on this machine for a Sandbar control plane.

  --control-plane URL   the deployment this host works for        SANDBAR_CONTROL_PLANE
  --token TOKEN         the join token of this host               SANDBAR_TOKEN
  --listen HOST:PORT    default 127.0.0.1:8788; port 0: any       SANDBAR_LISTEN
  --advertise URL       where the control plane reaches the host  SANDBAR_ADVERTISE
                        (default: where it listens)
  --runtime RUNTIME     auto, docker or embedded                  SANDBAR_RUNTIME
  --data-dir DIR        default /var/lib/sandbar as root,         SANDBAR_DATA_DIR
                        ~/.local/share/sandbar otherwise
  --log-window MIB      output kept of each stream of a process;  SANDBAR_LOG_WINDOW
                        default 16, 1 to 1024
  --ephemeral           end all sandboxes when the host ends, and end when the parent does
  --help
`;

const MIB = 1_048_576;
const MAX_WINDOW_MIB = 1024;
const RUNTIMES = ["auto", "docker", "embedded"] as const;

export interface HostArguments {
  controlPlaneUrl: string;
  hostId: string;
  hostKey: string;
  listen: { host: string; port: number };
  advertiseUrl: string | undefined;
  runtime: (typeof RUNTIMES)[number];
  dataDir: string;
  /** Output kept of each stream of a process. */
  windowBytes: number;
  isEphemeral: boolean;
}

/** What is wrong with the arguments; the message is for the person who typed them. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Reads the arguments after `sandbar`; "help" when that is what was asked for. Throws {@link UsageError}. */
export function parseArguments(argv: string[], env: NodeJS.ProcessEnv): HostArguments | "help" {
  const { values, positionals } = parse(argv);
  if (values.help) return "help";
  if (positionals[0] === undefined) throw new UsageError("a command is missing: sandbar host");
  if (positionals[0] !== "host")
    throw new UsageError(`there is no command "${positionals[0]}", only "host" and "push"`);
  if (positionals.length > 1) throw new UsageError(`unexpected argument "${positionals[1]}"`);

  const given = (value: string | undefined, variable: string) => value ?? (env[variable] || undefined);
  const controlPlane = given(values["control-plane"], "SANDBAR_CONTROL_PLANE");
  const token = given(values.token, "SANDBAR_TOKEN");
  if (controlPlane === undefined) throw new UsageError("--control-plane (or SANDBAR_CONTROL_PLANE) is missing");
  if (token === undefined) throw new UsageError("--token (or SANDBAR_TOKEN) is missing");
  const join = parseJoinToken(token);
  if (!join) throw new UsageError("--token is no join token: it has the form ho-….… and comes from the control plane");
  const runtime = given(values.runtime, "SANDBAR_RUNTIME") ?? "auto";
  if (!isRuntime(runtime)) throw new UsageError(`--runtime must be one of ${RUNTIMES.join(", ")}, not "${runtime}"`);
  const advertise = given(values.advertise, "SANDBAR_ADVERTISE");
  const listen = parseListen(given(values.listen, "SANDBAR_LISTEN") ?? "127.0.0.1:8788");
  if (advertise === undefined && ["0.0.0.0", "::"].includes(listen.host)) {
    throw new UsageError(`--advertise is missing: ${listen.host} is no address that the control plane can call`);
  }
  return {
    controlPlaneUrl: parseUrl("--control-plane", controlPlane),
    ...join,
    listen,
    advertiseUrl: advertise === undefined ? undefined : parseUrl("--advertise", advertise),
    runtime,
    dataDir: given(values["data-dir"], "SANDBAR_DATA_DIR") ?? defaultDataDir(env),
    windowBytes: parseWindow(given(values["log-window"], "SANDBAR_LOG_WINDOW")),
    isEphemeral: values.ephemeral ?? false,
  };
}

function parse(argv: string[]) {
  const text = { type: "string" } as const;
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        "control-plane": text,
        token: text,
        listen: text,
        advertise: text,
        runtime: text,
        "data-dir": text,
        "log-window": text,
        ephemeral: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

const isRuntime = (text: string): text is HostArguments["runtime"] => (RUNTIMES as readonly string[]).includes(text);

function parseListen(text: string): HostArguments["listen"] {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65_535) throw new UsageError(`--listen must be HOST:PORT, not "${text}"`);
  return { host: (match[1] ?? match[2])!, port };
}

function parseWindow(text: string | undefined): number {
  if (text === undefined) return DEFAULT_WINDOW_BYTES;
  const mib = Number(text);
  if (!Number.isInteger(mib) || mib < 1 || mib > MAX_WINDOW_MIB) {
    throw new UsageError(`--log-window must be 1 to ${MAX_WINDOW_MIB} (MiB), not "${text}"`);
  }
  return mib * MIB;
}

export function parseUrl(option: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !["http:", "https:"].includes(url.protocol) || url.search || url.hash) {
    throw new UsageError(`${option} must be an http(s) URL, not "${text}"`);
  }
  return url.href.replace(/\/+$/, "");
}

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return "/var/lib/sandbar";
  return join(env["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "sandbar");
}
