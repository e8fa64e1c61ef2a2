import { describe, expect, it } from "vitest";
import { SANDBOX_STATES, type SandboxState } from "../../src/contract/sandbox.ts";
import { transition, type Happening } from "../../src/sandbox/machine.ts";

const exit = (more: object) =>
  ({ kind: "container_exited", exit: { returncode: 0, oom: false, deadline: false, ...more } }) as const;

/** Where each event leads from `created`, `scheduled`, `started` and `ready`; `-` is nowhere. */
const TABLE: [Happening, string, string, string, string][] = [
  [{ kind: "scheduled" }, "scheduled", "-", "-", "-"],
  [{ kind: "started" }, "started", "started", "-", "-"],
  [{ kind: "ready" }, "-", "-", "ready", "-"],
  [exit({ returncode: 0 }), ...all("finished exited 0")],
  [exit({ returncode: 7 }), ...all("finished exited 7")],
  [exit({ returncode: 143 }), ...all("finished signaled 143")],
  [exit({ returncode: 137, oom: true }), ...all("finished oom 137")],
  [exit({ returncode: 124, deadline: true }), ...all("terminated timeout 124")],
  [{ kind: "terminate" }, ...all("terminated terminated 137")],
  [{ kind: "lifetime_over" }, ...all("terminated timeout 124")],
  [{ kind: "idle_over" }, ...all("terminated idle_timeout 137")],
  [{ kind: "host_lost", error: "gone" }, ...all("terminated host_lost null")],
  [
    { kind: "start_failed", error: "no image" },
    "terminated start_failed null",
    "terminated start_failed null",
    "-",
    "-",
  ],
  [{ kind: "no_capacity", error: "full" }, "terminated no_capacity null", "terminated no_capacity null", "-", "-"],
];

function all(what: string): [string, string, string, string] {
  return [what, what, what, what];
}

function show(state: SandboxState, event: Happening): string {
  const next = transition(state, event);
  if (next.kind === "ignored") return "-";
  return next.kind === "moved" ? next.state : `${next.state} ${next.end.finishReason} ${next.end.returncode}`;
}

describe("the state machine", () => {
  it.each(TABLE)("%j leads where it should", (event, ...expected) => {
    const live: SandboxState[] = ["created", "scheduled", "started", "ready"];
    expect(live.map((state) => show(state, event))).toEqual(expected);
  });

  it("decides every state, and nothing moves an ended sandbox", () => {
    expect(SANDBOX_STATES).toHaveLength(6);
    for (const [event] of TABLE) {
      expect(show("finished", event)).toBe("-");
      expect(show("terminated", event)).toBe("-");
    }
  });

  it("keeps the reason of a failed start", () => {
    expect(transition("scheduled", { kind: "start_failed", error: "no such image" })).toMatchObject({
      end: { error: "no such image" },
    });
  });
});
