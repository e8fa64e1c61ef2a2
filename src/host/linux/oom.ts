import { readFileSync } from "node:fs";

/** How often the kernel has killed in a memory control group; undefined when it does not say. */
export function readOomKills(groupPath: string, version: 1 | 2): number | undefined {
  try {
    const text = readFileSync(`${groupPath}/${version === 1 ? "memory.oom_control" : "memory.events"}`, "utf8");
    const count = /^oom_kill (\d+)$/m.exec(text)?.[1];
    return count === undefined ? undefined : Number(count);
  } catch {
    return undefined;
  }
}
