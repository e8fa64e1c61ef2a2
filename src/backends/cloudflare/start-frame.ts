import type { ExecSpec } from "../../contract/host-protocol.ts";
import { listOf, variablesOf } from "./agent/frames.ts";

/** The object kills at the timeout itself; the agent does when nobody has for so much longer. */
const AGENT_SLACK_MS = 5_000;

/** What the agent is told to start. It says the note again to who attaches, and kills by itself a little after the timeout. */
export function startFrame(spec: ExecSpec, note = ""): Uint8Array {
  const isOpen = spec.open_stdin === true || spec.pty !== undefined;
  const stdin = Uint8Array.from(atob(spec.stdin ?? ""), (character) => character.charCodeAt(0));
  const flag = (is: boolean) => (is ? "1" : "0");
  const killAfterMs = spec.timeout_ms === undefined ? 0 : spec.timeout_ms + AGENT_SLACK_MS;
  return listOf([
    spec.process_id,
    spec.workdir ?? "",
    spec.user ?? "",
    // All of it at once: a process never waits for input that went down with the object.
    stdin,
    flag(isOpen),
    flag(spec.stdout !== "ignore"),
    flag(spec.stderr !== "ignore"),
    String(spec.pty?.rows ?? 0),
    String(spec.pty?.cols ?? 0),
    note,
    String(Math.ceil(killAfterMs / 1000)),
    String(spec.command.length),
    ...spec.command,
    ...variablesOf(spec.env),
  ]);
}
