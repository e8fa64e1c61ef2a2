import { afterAll, beforeAll } from "vitest";
import { Agent } from "./cloudflare-agent.ts";
import { until } from "./signed-host.ts";

/** One agent for the tests around it. Every operation is a process, and none is left when they are done. */
export function useAgent(keep: (agent: Agent) => void, clean: () => void): void {
  let agent: Agent | undefined;
  beforeAll(async () => keep((agent = await Agent.start())));
  afterAll(async () => {
    try {
      await until(() => agent?.children().length === 0);
    } finally {
      await agent?.end();
      clean();
    }
  });
}
