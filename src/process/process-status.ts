import type { ProcessStatus } from "../contract/host-protocol.ts";
import type { ToBase64 } from "./base64.ts";
import type { ObservedProcess } from "./observed-process.ts";

/** What is known of a process now, without its output. */
export function statusOf({ id, exit, logs }: Pick<ObservedProcess, "id" | "exit" | "logs">): ProcessStatus {
  return {
    process_id: id,
    returncode: exit?.returncode ?? null,
    timed_out: exit?.timedOut ?? false,
    ...(exit && { finish_reason: exit.reason, exited_at: exit.at }),
    stdout_bytes: logs.stdout.length,
    stderr_bytes: logs.stderr.length,
  };
}

/** The process once it has ended or the time is up, with its output where time was given; at once without. */
export async function statusAfter(
  process: ObservedProcess,
  waitMs: number,
  toBase64: ToBase64,
  signal?: AbortSignal,
): Promise<ProcessStatus> {
  if (waitMs <= 0) return statusOf(process);
  // Whoever waits for the end does not read, and must not wait for readers that may never come.
  process.hurry();
  if (!process.exit) await untilEnd(process, waitMs, signal);
  const stdout = process.logs.stdout.first();
  const stderr = process.logs.stderr.first();
  return {
    ...statusOf(process),
    output: {
      stdout: toBase64(stdout.bytes),
      stderr: toBase64(stderr.bytes),
      stdout_truncated: stdout.isTruncated,
      stderr_truncated: stderr.isTruncated,
    },
  };
}

async function untilEnd(process: ObservedProcess, waitMs: number, signal?: AbortSignal): Promise<void> {
  const over = Promise.withResolvers<void>();
  const stop = () => over.resolve();
  const timer = setTimeout(stop, waitMs);
  const unsubscribe = process.onEnd(stop);
  signal?.addEventListener("abort", stop);
  await over.promise;
  signal?.removeEventListener("abort", stop);
  unsubscribe();
  clearTimeout(timer);
}
