import type { HostArguments } from "./arguments.ts";
import type { Daemon } from "./daemon.ts";
import { writeJoinFile } from "./join-file.ts";
import { reasonOf, ReportRefused } from "./report-refused.ts";

const NO_TOKEN_OF_THEIRS = [401, 403];

/** Keeps what a host was joined with, once the control plane has taken its first report. Throws with the reason where it does not. */
export async function keepJoin(daemon: Daemon, { controlPlaneUrl, dataDir, join }: HostArguments): Promise<void> {
  if (!join) return;
  try {
    await daemon.reported;
  } catch (error) {
    throw new Error(`this host has not joined: the control plane at ${controlPlaneUrl} ${what(error)}`, {
      cause: error,
    });
  }
  writeJoinFile(dataDir, join.options);
}

function what(error: unknown): string {
  if (!(error instanceof ReportRefused)) return `cannot be reached: ${reasonOf(error)}`;
  const { status, message } = error;
  return NO_TOKEN_OF_THEIRS.includes(status) ? `refuses the token: ${message}` : `takes no report: ${message}`;
}
