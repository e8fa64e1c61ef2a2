import type { ExecSpec } from "../../contract/host-protocol.ts";
import { list, variablesOf } from "./agent/frames.ts";

/** What the agent is told to start. */
export function startFrame(spec: ExecSpec): Uint8Array {
  const isOpen = spec.open_stdin === true || spec.pty !== undefined;
  const stdin = Uint8Array.from(atob(spec.stdin ?? ""), (character) => character.charCodeAt(0));
  const flag = (is: boolean) => (is ? "1" : "0");
  return list(
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
    String(spec.command.length),
    ...spec.command,
    ...variablesOf(spec.env),
  );
}
