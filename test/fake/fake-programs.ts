import { CidrSet } from "../../src/contract/cidr.ts";
import type { FakeContainer } from "./fake-host.ts";
import type { FakeProcess } from "./fake-process.ts";

/** Runs the few programs that the fake image has; they do what the real ones do in the contract suite. */
export function runProgram(process: FakeProcess, container: FakeContainer): void {
  const { spec } = process;
  const [program, ...args] = spec.command as [string, ...string[]];
  const env: Record<string, string> = { ...container.spec.env, ...spec.env };
  const print = (text: string, returncode = 0) => {
    process.write("stdout", text);
    process.exit(returncode);
  };
  const fail = (text: string, returncode: number) => {
    process.write("stderr", text);
    process.exit(returncode);
  };
  switch (program) {
    case "true":
      return process.exit(0);
    case "false":
      return process.exit(1);
    case "echo":
      return print(`${args.join(" ")}\n`);
    case "cat":
      return cat(process, container, args[0]);
    case "pwd":
      return print(`${spec.workdir ?? "/"}\n`);
    case "printenv":
      return env[args[0]!] === undefined ? process.exit(1) : print(`${env[args[0]!]}\n`);
    case "sleep":
      return process.after(Number(args[0]) * 1000, () => process.exit(0));
    case "serve":
      return;
    case "reach": {
      const { outbound } = container.network ?? {};
      return process.exit(!outbound || new CidrSet(outbound.cidrs).has(args[0]!) ? 0 : 1);
    }
    case "id":
      return print(`${spec.user ?? "0"}\n`);
    case "head":
      process.write("stdout", new Uint8Array(Number(args[1])));
      return process.exit(0);
    case "sh":
      return shell(process, args[1] ?? "");
    default:
      return fail(`${program}: not found\n`, 127);
  }
}

function cat(process: FakeProcess, container: FakeContainer, path: string | undefined): void {
  if (path === undefined) {
    process.onInput = (bytes) => process.write("stdout", bytes);
    process.onInputEnd = () => process.exit(0);
    return;
  }
  try {
    process.write("stdout", container.files.file(path).bytes);
  } catch {
    process.write("stderr", `cat: ${path}: No such file or directory\n`);
    return process.exit(1);
  }
  process.exit(0);
}

/** `sh -c` with the scripts that the suites use: these commands, one after the other. */
function shell(process: FakeProcess, script: string): void {
  const commands = script.split(/;|&(?!\d)/).map((command) => command.trim());
  const next = (at: number, elapsed: number): void => {
    const command = commands[at];
    if (command === undefined) return process.exit(0);
    const goOn = () => next(at + 1, elapsed);
    const echo = /^echo (\S+)( >&2)?$/.exec(command);
    const sleep = /^sleep ([\d.]+)$/.exec(command);
    const exit = /^exit (\d+)$/.exec(command);
    const kill = /^kill -(\d+) \$\$$/.exec(command);
    if (echo) process.write(echo[2] ? "stderr" : "stdout", `${echo[1]}\n`);
    else if (exit) return process.exit(Number(exit[1]));
    else if (kill) return process.exit(128 + Number(kill[1]));
    else if (command === "stty size") {
      if (!process.terminal) return process.exit(1);
      process.write("stdout", `${process.terminal.size.rows} ${process.terminal.size.cols}\n`);
    } else if (command === "read line") {
      process.onInput = goOn;
      return;
    } else if (sleep) {
      elapsed += Number(sleep[1]) * 1000;
      return process.after(elapsed, goOn);
    } else throw new Error(`The fake shell does not know ${JSON.stringify(command)}.`);
    goOn();
  };
  next(0, 0);
}
