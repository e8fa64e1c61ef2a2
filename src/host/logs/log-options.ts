import type { LogBudget } from "./log-budget.ts";

/** What one output is kept with. */
export interface LogOptions {
  /** Path of the segments, without their numbers. */
  base: string;
  budget: LogBudget;
  /** How much is kept at least, and how far a process may run ahead of its readers. */
  windowBytes?: number | undefined;
  /** The numbers of the segments that an earlier run of the daemon left. */
  found?: string[];
}
