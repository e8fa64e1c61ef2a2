import { isEnded, type SandboxDocument } from "./ledger.ts";

interface SandboxEvent {
  id: number;
  type: string;
  data: { finish_reason?: string; returncode?: number; type?: string };
}

const ORDER = ["created", "scheduled", "started", "ready"];
const ENDS = ["finished", "terminated"];

/** What is wrong with the events of a sandbox, as `GET …/events?follow=false` gives them; nothing when they are right. */
export function wrongEvents(text: string, sandbox: SandboxDocument): string[] {
  const events = parseEvents(text);
  const types = events.map(({ type }) => type);
  const wrong: string[] = [];
  const says = (isSo: boolean, what: string) => isSo || wrong.push(`${what}: ${types.join(" ")}`);
  says(
    events.every(({ id }, index) => Number.isInteger(id) && (index === 0 || id > events[index - 1]!.id)),
    `ids do not go up (${events.map(({ id }) => id).join(" ")})`,
  );
  says(types[0] === "created", "the first is not `created`");
  for (const once of ["created", "started", "ready"])
    says(types.filter((type) => type === once).length <= 1, `\`${once}\` more than once`);
  const stages = types.map((type) => ORDER.indexOf(type)).filter((stage) => stage >= 0);
  says(
    stages.every((stage, index) => index === 0 || stage >= stages[index - 1]!),
    "states go backwards",
  );
  if (sandbox.started_at !== undefined) says(types.includes("started"), "`started` is missing");
  const ends = events.filter(({ type }) => ENDS.includes(type));
  says(ends.length === (isEnded(sandbox) ? 1 : 0), `${ends.length} ends of a sandbox that is ${sandbox.state}`);
  if (ends.length === 0) return wrong;
  const [end] = ends;
  says(events.at(-1) === end, "the end is not the last");
  says(
    end!.type === sandbox.state && end!.data.finish_reason === sandbox.finish_reason,
    `the end is ${JSON.stringify(end!.data)}, the sandbox says ${sandbox.state} ${sandbox.finish_reason}`,
  );
  says((end!.data.returncode ?? undefined) === sandbox.returncode, "the return codes differ");
  return wrong;
}

function parseEvents(text: string): SandboxEvent[] {
  return text
    .split("\n\n")
    .filter((block) => /^data:/m.test(block))
    .map((block) => {
      const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, "m").exec(block)?.[1] ?? "";
      const data = JSON.parse(field("data")) as SandboxEvent["data"];
      return { id: Number(field("id")), type: field("event") || (data.type ?? ""), data };
    });
}
