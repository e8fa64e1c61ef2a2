/** What a process is started with, everything already merged. */
export interface ProcessSpec {
  command: string[];
  env: Record<string, string>;
  workdir: string;
  /** Makes the working directory where it is missing. */
  makeWorkdir?: boolean;
}

/** Names that a shell keeps for itself: an `export` of them fails, changes the shell or is overwritten. */
const SHELL_OWNED =
  /^(IFS|ENV|PWD|OLDPWD|PS[0-9]|PPID|E?UID|OPT(IND|ARG|ERR)|GROUPS|LINENO|RANDOM|SRANDOM|SECONDS|SHLVL|SHELLOPTS|POSIXLY_CORRECT|BASH.*|EPOCH.*|DIRSTACK|FUNC.*|HIST.*|PIPESTATUS|COMP_.*|MACHTYPE|HOSTTYPE|OSTYPE|HOSTNAME|MAIL.*|TMOUT|LC_.*|LANG|LANGUAGE|_|__.*)$/;

/** The script that makes a forked shell of `launcher.sh` into the process: exact bytes, no word is looked at by the shell. */
export function specScript(spec: ProcessSpec): string {
  const viaEnv: string[] = [];
  const lines: string[] = [];
  for (const [name, value] of Object.entries(spec.env)) {
    if (SHELL_OWNED.test(name)) viaEnv.push(quote(`${name}=${value}`));
    else lines.push(`export ${name}=${quote(value)}`);
  }
  lines.push(`__enter ${quote(spec.workdir)}${spec.makeWorkdir ? " make" : ""}`);
  const program = quote(spec.command[0]!);
  // The program comes behind setsid, also where `env` would take one with a `=` in its name for a variable.
  const prefix = viaEnv.length > 0 ? `/usr/bin/env ${viaEnv.join(" ")} ` : "";
  lines.push(`__check ${program}`, `__start ${prefix}$__setsid ${spec.command.map(quote).join(" ")}`);
  return `${lines.join("\n")}\n`;
}

function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
