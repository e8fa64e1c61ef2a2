import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { dirname } from "node:path";

/** What is measured by itself. */
export type Part =
  | "host"
  | "creates"
  | "containers"
  | "lifecycle"
  | "files"
  | "snapshots"
  | "tunnels"
  | "volumes"
  | "placement";

export interface Row {
  what: string;
  unit: "ms" | "µs" | "s" | "MB/s" | "per s" | "MiB" | "KiB" | "%" | "";
  ours: number;
  /** The engine's own command line, where there is one. */
  engine?: number | undefined;
  /** What `ours / engine` is to be, at most or at least; `atMostMore`: what `ours - engine` is to be, in the unit. */
  target?: { atMost: number } | { atLeast: number } | { atMostMore: number } | undefined;
}

const digits = (value: number) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

export const ratioOf = ({ ours, engine }: Row): number | undefined =>
  engine === undefined ? undefined : ours / engine;

/** Whether a ratio is what it is to be; undefined where nothing is asked, or nothing was compared. */
export function isMet(row: Row): boolean | undefined {
  const ratio = ratioOf(row);
  if (ratio === undefined || !row.target) return undefined;
  if ("atMostMore" in row.target) return row.ours - row.engine! <= row.target.atMostMore;
  return "atMost" in row.target ? ratio <= row.target.atMost : ratio >= row.target.atLeast;
}

function targetOf(target: NonNullable<Row["target"]>, unit: string): string {
  if ("atMostMore" in target) return `≤ ${target.atMostMore} ${unit} more`;
  return "atMost" in target ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`;
}

/** The results as a table of Markdown, beside what `other` names. */
export function table(rows: Row[], other: string): string {
  const lines = rows.map((row) => {
    const ratio = ratioOf(row);
    const target = row.target && targetOf(row.target, row.unit);
    const engine = row.engine === undefined ? "" : `${digits(row.engine)} ${row.unit}`;
    const verdict = isMet(row) === false ? " (missed)" : "";
    return `| ${row.what} | ${digits(row.ours)} ${row.unit} | ${engine} | ${ratio === undefined ? "" : digits(ratio)} | ${target ?? ""}${verdict} |`;
  });
  return [`| | Sandbar | \`${other}\` | ratio | target |`, "|---|---|---|---|---|", ...lines].join("\n");
}

export function writeJson(path: string, runtime: string, parts: Record<Part, Row[]>): void {
  mkdirSync(dirname(path), { recursive: true });
  const machine = { cpus: cpus().length, model: cpus()[0]?.model, memory_bytes: totalmem(), node: process.version };
  const judged = (all: Row[]) => all.map((row) => ({ ...row, ratio: ratioOf(row), met: isMet(row) }));
  const { host, ...others } = parts;
  const judgedOthers = Object.entries(others).map(([part, rows]) => [part, judged(rows)]);
  const results = { results: judged(host), ...Object.fromEntries(judgedOthers) };
  writeFileSync(path, `${JSON.stringify({ at: new Date().toISOString(), runtime, machine, ...results }, null, 2)}\n`);
}

/** Milliseconds that it takes. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await run();
  return performance.now() - begin;
}

export function percentile(times: number[], share: number): number {
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
}
