import { StartFailure } from "../runtime.ts";
import { EngineError } from "./engine.ts";

/** What the layers of an engine put before and behind the words that matter. */
const NOISE = [
  /^(?:failed to create (?:shim|shim task|task for container)|failed to start shim):\s*/i,
  /^(?:cannot|unable to) start (?:a )?(?:stopped process|container)[^:]*:\s*/i,
  /^(?:OCI runtime (?:create|exec) failed|runc (?:create|exec|run) failed|crun|exec failed|runsc):\s*/i,
  /^container_linux\.go:\d+:\s*/i,
  /^starting (?:container|setns) process caused:\s*/i,
  /^unable to start container process:\s*/i,
  /^process_linux\.go:\d+:\s*/i,
  /^error during container init:\s*/i,
  /^Error response from daemon:\s*/i,
  /^Error:\s*/,
  /^(?:runc|crun):\s*/i,
];

/** The engine's reason on one line, without the names of its source files: `exec: "x": executable file not found in $PATH`. */
export function readableReason(message: string): string {
  let reason = message.replace(/\s+/g, " ").trim();
  for (let before = ""; before !== reason;) {
    before = reason;
    for (const pattern of NOISE) reason = reason.replace(pattern, "");
  }
  return (
    reason
      .replace(
        /: OCI (?:runtime attempted to invoke a command that was not found|permission denied|runtime error)$/,
        "",
      )
      .replace(/: unknown(?:: Are you trying to mount .*)?$/, "")
      .trim() || message
  );
}

/**
 * An engine's refusal as the end of a start. A call that got no answer stays what it is: the engine may come back, and
 * nobody knows whether the sandbox could have run.
 */
export function asStartFailure(error: unknown): unknown {
  if (!(error instanceof EngineError) || error.status === undefined) return error;
  return new StartFailure(readableReason(error.message), { cause: error });
}

/** The code a shell gives a program that cannot be run: 127 when it is not there, 126 for all else. */
export function cannotRunCode(reason: string): 126 | 127 {
  if (/chdir|\bcwd\b|workdir|working directory/i.test(reason)) return 126;
  return /not found|no such file/i.test(reason) ? 127 : 126;
}
