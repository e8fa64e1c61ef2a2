import type { ExecSpec } from "../../src/contract/host-protocol.ts";
import type { FakeContainer } from "./fake-backend.ts";

export interface FakeProgram {
  stdout: Uint8Array;
  stderr: Uint8Array;
  returncode: Promise<number>;
}

const encoder = new TextEncoder();

const done = (stdout: string | Uint8Array, returncode = 0, stderr = ""): FakeProgram => ({
  stdout: typeof stdout === "string" ? encoder.encode(stdout) : stdout,
  stderr: encoder.encode(stderr),
  returncode: Promise.resolve(returncode),
});

const running = (ms: number): FakeProgram => ({
  ...done(""),
  returncode: new Promise((resolve) => {
    if (Number.isFinite(ms)) setTimeout(() => resolve(0), ms);
  }),
});

/** The few programs that the fake image has; they do what the real ones do in the contract suite. */
export function runProgram(spec: ExecSpec, container: FakeContainer): FakeProgram {
  const [program, ...args] = spec.command as [string, ...string[]];
  const env: Record<string, string> = { ...container.spec.env, ...spec.env };
  switch (program) {
    case "true":
      return done("");
    case "false":
      return done("", 1);
    case "echo":
      return done(`${args.join(" ")}\n`);
    case "cat":
      if (args[0] !== undefined) {
        const file = container.files.get(args[0]);
        return file ? done(file.bytes) : done("", 1, `cat: ${args[0]}: No such file or directory\n`);
      }
      return done(Uint8Array.from(atob(spec.stdin ?? ""), (character) => character.charCodeAt(0)));
    case "pwd":
      return done(`${spec.workdir ?? "/"}\n`);
    case "printenv":
      return env[args[0]!] === undefined ? done("", 1) : done(`${env[args[0]!]}\n`);
    case "sleep":
      return running(Number(args[0]) * 1000);
    case "serve":
      return running(Infinity);
    case "sh":
      return shell(args);
    default:
      return done("", 127, `${program}: not found\n`);
  }
}

/** `sh -c` with the scripts that the contract suite uses. */
function shell(args: string[]): FakeProgram {
  const script = args[1] ?? "";
  const exit = /^exit (\d+)$/.exec(script);
  if (exit) return done("", Number(exit[1]));
  const self = /^kill -(\d+) \$\$$/.exec(script);
  if (self) return done("", 128 + Number(self[1]));
  if (script === "echo out; echo err >&2") return done("out\n", 0, "err\n");
  throw new Error(`The fake shell does not know ${JSON.stringify(script)}.`);
}
