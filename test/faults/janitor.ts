import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, rmdirSync, rmSync } from "node:fs";
import { openRuntimeDir } from "../../src/host/runtime-dir.ts";

/**
 * `node janitor.ts DIR`: waits until its stdin ends, which it does with the process at the other end, however that ended; then
 * ends every process that belongs to DIR, unmounts what is mounted below it, and removes it.
 */
const directory = process.argv[2]!;
const ROUNDS = 50;
const MAX_CGROUP_DEPTH = 4;

process.stdin.resume();
process.stdin.on("error", () => undefined).on("close", () => void clean());
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

async function clean(): Promise<void> {
  const runtimeDir = await openRuntimeDir(`${directory}/host`).catch(() => undefined);
  const sandboxes = read(() => readdirSync(`${directory}/host/sandboxes`)) ?? [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const pids = processes();
    for (const pid of pids) read(() => process.kill(pid, "SIGKILL"));
    if (pids.length === 0) break;
    await new Promise((wake) => setTimeout(wake, 50));
  }
  for (const point of mountsBelow()) read(() => execFileSync("umount", ["-l", point], { stdio: "ignore" }));
  for (const id of sandboxes) for (const group of cgroupsOf(id)) read(() => rmdirSync(group));
  if (runtimeDir) rmSync(runtimeDir, { recursive: true, force: true });
  rmSync(directory, { recursive: true, force: true });
}

/** Those that name the directory, or work in it, and what they started. */
function processes(): number[] {
  const parents = new Map<number, number>();
  const own = new Set<number>();
  for (const name of readdirSync("/proc")) {
    const pid = Number(name);
    if (!(pid > 1) || pid === process.pid) continue;
    const stat = read(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
    const [state, parent] = stat?.slice(stat.lastIndexOf(")") + 2).split(" ") ?? [];
    if (state === undefined || state === "Z") continue;
    parents.set(pid, Number(parent));
    const says = [
      read(() => readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")),
      read(() => `${readlinkSync(`/proc/${pid}/cwd`)}/`),
    ];
    if (says.some((text) => text?.includes(`${directory}/`) || text?.includes(`${directory} `))) own.add(pid);
  }
  for (const [dir] of read(() => readdirSync(`${directory}/host/sandboxes`))?.map((id) => [id]) ?? []) {
    const init = Number.parseInt(
      read(() => readFileSync(`${directory}/host/sandboxes/${dir}/init.stat`, "utf8")) ?? "",
      10,
    );
    if (parents.has(init)) own.add(init);
  }
  for (let before = 0; before !== own.size;) {
    before = own.size;
    for (const [pid, parent] of parents) if (own.has(parent)) own.add(pid);
  }
  return [...own];
}

function mountsBelow(): string[] {
  return readFileSync("/proc/self/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((point) => point.startsWith(`${directory}/`))
    .toReversed();
}

function cgroupsOf(name: string, below = "/sys/fs/cgroup", depth = 0): string[] {
  if (depth === MAX_CGROUP_DEPTH) return [];
  const folders = read(() => readdirSync(below, { withFileTypes: true }))?.filter((entry) => entry.isDirectory()) ?? [];
  return folders.flatMap((entry) => {
    const path = `${below}/${entry.name}`;
    return entry.name.endsWith(`-${name}`) ? [path] : cgroupsOf(name, path, depth + 1);
  });
}

/** What is gone meanwhile is gone. */
function read<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
