import { readFileSync, writeFileSync } from "node:fs";
import { hasCode } from "../../contract/errors.ts";
import { StartFailure } from "../runtime.ts";
import { withTimeLimit } from "../time-limit.ts";
import type { LaunchedProcess } from "./process.ts";

const ENTER_TIMEOUT_MS = 10_000;

/** Starts the entrypoint by a launcher. Throws {@link StartFailure} when it does not run. */
export async function startEntrypoint(launch: () => Promise<LaunchedProcess>): Promise<LaunchedProcess> {
  const late = () => new StartFailure("The entrypoint did not start in time.");
  const main = await launch().catch((error: unknown) => {
    throw hasCode(error, "exec_failed") ? late() : error;
  });
  const launched = await withTimeLimit(main.launched, ENTER_TIMEOUT_MS, late);
  if (launched.kind === "refused") throw new StartFailure(`The entrypoint cannot be started: ${launched.reason}`);
  return main;
}

/** Keeps in the folder how the entrypoint ended: a later daemon has no other way to know once the launcher is released. */
export function keepEntrypointCode(main: LaunchedProcess, folder: string): void {
  void main.exited.then((returncode) => {
    try {
      if (returncode !== undefined) writeFileSync(`${folder}/main.exit`, String(returncode));
    } catch {
      // The folder goes with its container.
    }
  });
}

export function readEntrypointCode(folder: string): number | undefined {
  try {
    return Number(readFileSync(`${folder}/main.exit`, "utf8"));
  } catch {
    return undefined;
  }
}
