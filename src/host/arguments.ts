import { homedir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { readJoinFile } from "./join-file.ts";
import { OPTIONS, readOptions, type GivenOptions, type HostOptions } from "./options.ts";
import { UsageError } from "./usage.ts";

const NAMES = Object.keys(OPTIONS) as (keyof typeof OPTIONS)[];

export interface HostArguments extends HostOptions {
  dataDir: string;
  isEphemeral: boolean;
  /** To be kept in the data directory once the control plane has taken the token; undefined where nobody asks for that. */
  join: { options: GivenOptions; isRun: boolean } | undefined;
}

/** Reads the arguments after `sandbar`; "help" when that is what was asked for. Throws {@link UsageError}. */
export function parseArguments(argv: string[], env: NodeJS.ProcessEnv): HostArguments | "help" {
  const { values, positionals } = parse(argv);
  if (values.help) return "help";
  const isJoin = requireCommand(positionals);
  if (values["no-run"] && !isJoin) throw new UsageError("--no-run is for sandbar host join");
  const dataDir = values["data-dir"] ?? (env["SANDBAR_DATA_DIR"] || defaultDataDir(env));
  const given = { ...fromEnv(env), ...fromFlags(values) };
  return {
    // A join begins anew: nothing is left of an earlier one.
    ...readOptions(isJoin ? given : { ...readJoinFile(dataDir), ...given }),
    dataDir,
    isEphemeral: values.ephemeral ?? false,
    join: isJoin ? { options: given, isRun: !values["no-run"] } : undefined,
  };
}

/** Whether it is `host join`. */
function requireCommand([command, more, ...rest]: string[]): boolean {
  if (command === undefined) throw new UsageError("a command is missing: sandbar host");
  if (command !== "host") throw new UsageError(`there is no command "${command}", only "host" and "push"`);
  const unexpected = more === "join" ? rest[0] : more;
  if (unexpected !== undefined) throw new UsageError(`unexpected argument "${unexpected}"`);
  return more === "join";
}

function fromEnv(env: NodeJS.ProcessEnv): GivenOptions {
  return Object.fromEntries(NAMES.map((name) => [name, env[OPTIONS[name]]] as const).filter(([, value]) => value));
}

function fromFlags(values: ReturnType<typeof parse>["values"]): GivenOptions {
  const { "control-plane": controlPlane, url = controlPlane, label, dns } = values;
  if (controlPlane !== undefined && controlPlane !== url)
    throw new UsageError("--url and --control-plane are the same: give one of them");
  const given = { ...values, url, label: label?.join(","), dns: dns?.join(",") };
  return Object.fromEntries(
    NAMES.map((name) => [name, given[name]] as const).filter(([, value]) => value !== undefined),
  );
}

function parse(argv: string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean" } as const;
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        url: text,
        "control-plane": text,
        token: text,
        listen: text,
        advertise: text,
        runtime: text,
        region: text,
        label: { type: "string", multiple: true },
        "cpu-overcommit": text,
        memory: text,
        "data-dir": text,
        "log-window": text,
        "volume-cache": text,
        dns: { type: "string", multiple: true },
        "no-run": flag,
        ephemeral: flag,
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function defaultDataDir(env: NodeJS.ProcessEnv): string {
  if (process.getuid?.() === 0) return "/var/lib/sandbar";
  return join(env["XDG_DATA_HOME"] || join(homedir(), ".local", "share"), "sandbar");
}
