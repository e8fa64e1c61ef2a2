import { closeSync, openSync, readdirSync, readFileSync } from "node:fs";

/** Not in Node's constants. */
const CLOSE_ON_EXEC = 0o2000000;

/**
 * The standard streams of `boot.sh`, with /dev/null in the place of every descriptor that this daemon itself was left
 * by whoever started it: those survive an exec, and the sandbox must not get them.
 */
export function withoutInherited(log: number): ("ignore" | number)[] {
  const stdio: ("ignore" | number)[] = ["ignore", log, log];
  const nothing = openSync("/dev/null", "r");
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    if (fd < 3) continue;
    let flags = "";
    try {
      flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "";
    } catch {
      continue;
    }
    if ((Number.parseInt(flags, 8) & CLOSE_ON_EXEC) !== 0) continue;
    while (stdio.length <= fd) stdio.push("ignore");
    stdio[fd] = nothing;
  }
  setImmediate(() => closeSync(nothing));
  return stdio;
}
