import type { PortTarget } from "../contract/body-apart.ts";
import { OWN_PREFIX } from "../contract/forwarding.ts";

/** On an answer to a request to a port: no app can give such an answer. */
const HEADER = `${OWN_PREFIX}onward`;

/** Where a request to a port goes on: to the sandbox's object again, now with its body, or straight to the host. */
export type Onward = { kind: "object" } | ({ kind: "host" } & PortTarget);

export function onwardAnswer(onward: Onward): Response {
  return new Response(JSON.stringify(onward), { headers: { [HEADER]: onward.kind } });
}

/** Undefined of an answer for the client. */
export async function onwardOf(answer: Response): Promise<Onward | undefined> {
  return answer.headers.has(HEADER) ? ((await answer.json()) as Onward) : undefined;
}
