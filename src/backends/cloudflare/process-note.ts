import { z } from "zod";
import type { ExecSpec } from "../../contract/host-protocol.ts";

/** What the object must know of a process, and has from the agent where its own record was lost with it. */
export interface ProcessNote {
  isTerminal: boolean;
  /** Milliseconds since 1970. */
  killAt?: number;
  /** A readiness probe: no use of the sandbox, and forgotten once it has ended. */
  isProbe?: boolean;
}

const NoteSchema = z.object({
  isTerminal: z.boolean(),
  killAt: z.int().exactOptional(),
  isProbe: z.boolean().exactOptional(),
});

export function noteOf(spec: ExecSpec, now: number): ProcessNote {
  return {
    isTerminal: spec.pty !== undefined,
    ...(spec.timeout_ms !== undefined && { killAt: now + spec.timeout_ms }),
    ...(spec.is_probe && { isProbe: true }),
  };
}

/** An agent that has lost or changed it harms its own sandbox only. */
export function readNote(text: string): ProcessNote {
  try {
    return NoteSchema.parse(JSON.parse(text));
  } catch {
    return { isTerminal: false };
  }
}
