import { isEnded, type KnownSandbox, type Ledger, type SandboxDocument } from "./ledger.ts";

/** Timers of the object and of the host may differ by this. */
const SLACK_MS = 100;

/**
 * Why a sandbox may have ended as it did; what is wrong with its end, undefined when it can be explained. A kill of the Worker or
 * of the host daemon and a failing D1 explain nothing: they end no sandbox.
 */
export function unexplained(ledger: Ledger, known: KnownSandbox, sandbox: SandboxDocument): string | undefined {
  if (!isEnded(sandbox)) return undefined;
  const isKilled = ledger.killed.has(known.sandboxId);
  const engine = ledger.engineHarm(sandbox);
  const lived = Date.parse(sandbox.finished_at ?? "") - Date.parse(sandbox.started_at ?? sandbox.created_at);
  const outlived = (seconds: number) => lived >= seconds * 1000 - SLACK_MS;
  const says = (isSo: boolean, why: string) => (isSo ? undefined : why);
  const code = sandbox.returncode;
  switch (sandbox.finish_reason) {
    case "terminated":
      return says(known.deletion !== "none" && code === 137, "nobody deleted it, or another return code than 137");
    case "timeout":
      return says(known.timeout.ever.some(outlived) && code === 124, "it was not due, or another return code than 124");
    case "idle_timeout":
      return says(
        known.idleTimeout.ever.some((seconds) => seconds !== null && outlived(seconds)) && code === 137,
        "it cannot have idled so long, or another return code than 137",
      );
    case "exited":
      return says(
        known.request.exit?.returncode === code,
        `its entrypoint ends with ${known.request.exit?.returncode}`,
      );
    case "signaled":
      return says((isKilled || engine === "lost") && code === 137, "nobody killed its container");
    case "host_lost":
      return says((isKilled || engine === "lost") && code === undefined, "nobody took its container away");
    default:
      return "nothing that was done explains that";
  }
}

/** When something must have ended it at the latest, in milliseconds since 1970. */
export function dueAt(known: KnownSandbox, sandbox: SandboxDocument): number {
  const startedAt = Date.parse(sandbox.started_at ?? sandbox.created_at);
  const lifetime = Math.max(...known.timeout.ever) * 1000;
  const exit = known.request.exit ? known.request.exit.afterS * 1000 : Infinity;
  return startedAt + Math.min(lifetime, exit);
}
