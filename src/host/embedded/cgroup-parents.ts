import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

export type Controller = "memory" | "cpu" | "pids" | "freezer";

/** The daemon's own group, of version 1, for each controller. */
export function version1Parents(): Partial<Record<Controller, string>> {
  const own = new Map<string, string>();
  for (const line of readFileSync("/proc/self/cgroup", "utf8").trim().split("\n")) {
    const [, names = "", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    for (const name of names.split(",")) own.set(name, path);
  }
  const parents: Partial<Record<Controller, string>> = {};
  for (const { root, point, type, options } of cgroupMounts()) {
    if (type !== "cgroup") continue;
    for (const name of ["memory", "cpu", "pids", "freezer"] as const) {
      const path = own.get(name);
      if (path !== undefined && options.includes(name))
        parents[name] = `${point}${below(root, path)}`.replace(/\/$/, "");
    }
  }
  return parents;
}

/** The nearest group of version 2, from the daemon's own upwards, that hands on its controllers. */
export function version2Parent(): string | undefined {
  const mount = cgroupMounts().find(({ type, point }) => type === "cgroup2" && has(point, "memory"));
  const own = /^0::(.*)$/m.exec(readFileSync("/proc/self/cgroup", "utf8"))?.[1];
  if (mount === undefined || own === undefined) return undefined;
  return nearest(`${mount.point}${below(mount.root, own)}`.replace(/\/$/, ""), mount.point);
}

function nearest(own: string, top: string): string | undefined {
  for (let path = own; path.startsWith(top); path = dirname(path)) if (handsOn(path)) return path;
  // A group with processes of its own hands nothing on: as the only one of a container, the daemon moves aside.
  if (own !== top) return undefined;
  try {
    mkdirSync(`${own}/sandbar-daemon`, { recursive: true });
    for (const pid of readFileSync(`${own}/cgroup.procs`, "utf8").trim().split("\n")) {
      writeFileSync(`${own}/sandbar-daemon/cgroup.procs`, pid);
    }
  } catch {
    return undefined;
  }
  return handsOn(own) ? own : undefined;
}

function handsOn(path: string): boolean {
  try {
    writeFileSync(`${path}/cgroup.subtree_control`, "+cpu +memory +pids");
    return true;
  } catch {
    return false;
  }
}

function has(point: string, controller: string): boolean {
  try {
    return readFileSync(`${point}/cgroup.controllers`, "utf8").split(/\s+/).includes(controller);
  } catch {
    return false;
  }
}

function below(root: string, path: string): string {
  return root === "/" ? path : path.startsWith(root) ? path.slice(root.length) : "";
}

function cgroupMounts() {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const [before = "", after = ""] = line.split(" - ");
      const [, , , root = "/", point = ""] = before.split(" ");
      const [type = "", , options = ""] = after.split(" ");
      return { root, point, type, options: options.split(",") };
    });
}
