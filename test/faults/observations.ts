import type { Findings } from "./findings.ts";
import { isEnded, type KnownSandbox, type SandboxDocument } from "./ledger.ts";

/** A client was shown the sandbox: an end that was seen once stays as it is, and what was deleted stays so. */
export function sawDocument(findings: Findings, known: KnownSandbox, seen: SandboxDocument): void {
  const { end } = known;
  if (end) {
    const differs = END_FIELDS.filter((field) => end[field] !== seen[field]);
    if (differs.length > 0)
      findings.add("an end is written once", `${known.sandboxId}: ${endOf(end)} and later ${endOf(seen)}`);
    return;
  }
  if (isEnded(seen)) known.end = seen;
  else if (known.deletion === "acknowledged")
    findings.add("what was deleted stays so", `${known.sandboxId} is ${seen.state} after its DELETE was acknowledged`);
}

const END_FIELDS = ["state", "finish_reason", "returncode", "error", "finished_at"] as const;

export const endOf = (sandbox: SandboxDocument) =>
  END_FIELDS.map((field) => sandbox[field])
    .filter((value) => value !== undefined)
    .join(" ");
