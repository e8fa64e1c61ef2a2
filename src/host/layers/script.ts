import { spawn, type ChildProcess } from "node:child_process";
import { AS_ROOT, HOST_ENV, isRoot } from "../linux/programs.ts";

/**
 * The scripts of this folder run as processes of their own: they move their current directory, block on their streams,
 * and are the root of an ordinary user's sandboxes. They say how it went by their return code and standard error.
 */
const REFUSED_CODE = 65;
const MAX_MESSAGE_BYTES = 4096;
/** What a copy of files needs; `sys_admin` is for the attributes `trusted.*`. */
const CAPABILITIES = ["chown", "dac_override", "fowner", "fsetid", "setfcap", "mknod", "sys_admin"];
const CONFINED = [
  "setpriv",
  "--no-new-privs",
  "--inh-caps=-all",
  `--bounding-set=-all,${CAPABILITIES.map((name) => `+${name}`).join(",")}`,
];

export interface Script {
  child: ChildProcess;
  /** Resolves when it ended well; rejects with what `refuse` makes of the reason it gave, or another Error. */
  ended: Promise<void>;
}

export function startScript(name: string, argument: unknown, refuse: (reason: string) => Error): Script {
  const file = `${import.meta.dirname}/${name}.ts`;
  const argv = [...(isRoot ? CONFINED : AS_ROOT), process.execPath, file, JSON.stringify(argument)];
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ["pipe", "pipe", "pipe"], env: HOST_ENV, cwd: "/" });
  let message = "";
  child.stderr.on("data", (chunk: Buffer) => {
    if (message.length < MAX_MESSAGE_BYTES) message += chunk.toString();
  });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      if (code === 0) resolve();
      else if (code === REFUSED_CODE) reject(refuse(message.trim()));
      else reject(new Error(`${name}: ${message.trim().slice(0, MAX_MESSAGE_BYTES) || (signal ?? code)}`));
    });
  });
  ended.catch(() => {});
  return { child, ended };
}

/** Thrown in a script: the input itself cannot be worked on, for the reason given. */
export class Refusal extends Error {}

/** The body of a script; its argument is what `startScript` was given. */
export function runScript<T>(work: (argument: T) => void): void {
  process.umask(0);
  try {
    work(JSON.parse(process.argv[2]!) as T);
  } catch (error) {
    const refused = error instanceof Refusal;
    process.exitCode = refused ? REFUSED_CODE : 1;
    process.stderr.write(`${refused ? error.message : String(error)}\n`);
  }
}

/** A name as people may be shown it. */
export function printable(name: Buffer | string): string {
  const text = JSON.stringify(typeof name === "string" ? Buffer.from(name, "latin1").toString() : name.toString());
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
