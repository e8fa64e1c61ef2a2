import { TERM } from "../linux/terminal.ts";

/** What a process is started with, everything already merged. */
export interface ProcessSpec {
  command: string[];
  env: Record<string, string>;
  workdir: string;
  /** Makes the working directory where it is missing. */
  makeWorkdir?: boolean;
  /** `user` or `user:group`. */
  user?: string | undefined;
}

/** Where the streams of a process lead, as the sandbox sees the paths. */
export type Streams = { stdin: string; stdout: string; stderr: string } | { tty: string };

/** Names that a shell keeps for itself: an `export` of them fails, changes the shell or is overwritten. */
const SHELL_OWNED =
  /^(IFS|ENV|PWD|OLDPWD|PS[0-9]|PPID|E?UID|OPT(IND|ARG|ERR)|GROUPS|LINENO|RANDOM|SRANDOM|SECONDS|SHLVL|SHELLOPTS|POSIXLY_CORRECT|BASH.*|EPOCH.*|DIRSTACK|FUNC.*|HIST.*|PIPESTATUS|COMP_.*|MACHTYPE|HOSTTYPE|OSTYPE|HOSTNAME|MAIL.*|TMOUT|LC_.*|LANG|LANGUAGE|_|__.*)$/;
const SHELL_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The script that makes a forked shell of `launcher.sh` into the process: exact bytes, no word is looked at by the shell. */
export function specScript(spec: ProcessSpec, streams: Streams): string {
  const isTerminal = "tty" in streams;
  const lines = [redirections(streams), "__hello"];
  const viaEnv: string[] = [];
  const env: Record<string, string> = { ...(isTerminal && { TERM }), ...spec.env };
  for (const [name, value] of Object.entries(env)) {
    if (SHELL_OWNED.test(name) || !SHELL_NAME.test(name)) viaEnv.push(quote(`${name}=${value}`));
    else lines.push(`export ${name}=${quote(value)}`);
  }
  lines.push(`__enter ${quote(spec.workdir)}${spec.makeWorkdir ? " make" : ""}`);
  if (spec.user !== undefined) lines.push(`__as ${spec.user.split(":").map(quote).join(" ")}`);
  if (isTerminal) lines.push('__setsid="$__setsid -c"');
  const [program, ...args] = spec.command.map(quote);
  lines.push(`__check ${program}`);
  if (viaEnv.length === 0) lines.push(`__start ${[program, ...args].join(" ")}`);
  // The program comes behind setsid, also where `env` would take one with a `=` in its name for a variable.
  else lines.push(`__exec $__env ${viaEnv.join(" ")} $__setsid $__as "$__program" ${args.join(" ")}`);
  return `${lines.join("\n")}\n`;
}

/** The runner's own ends of the outputs are no business of the process. */
function redirections(streams: Streams): string {
  if ("tty" in streams) return `exec 7>&- 8>&- <>${quote(streams.tty)} >&0 2>&0\n__tty=${quote(streams.tty)}`;
  const { stdin, stdout, stderr } = streams;
  return `exec 7>&- 8>&- <${quote(stdin)} >${quote(stdout)} 2>${quote(stderr)}`;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
