import { beforeAll, describe, expect, it } from "vitest";
import { findings, type Findings } from "./attack-findings.ts";
import { POLICIES, type RuntimeName } from "./attacks.ts";

/** Attacks from inside real sandboxes of a runtime. Each is also made where it must reach its aim: what cannot work is not counted as refused. */
export function attackSuite(runtime: RuntimeName, image: string): void {
  let found: Findings;
  const told = (which: (finding: Findings["all"][number]) => boolean) =>
    found.all.filter(which).map(({ place, attack, outcome }) => `${place}: ${attack.name}: ${JSON.stringify(outcome)}`);

  beforeAll(async () => {
    found = await findings(runtime, image);
  }, 120_000);

  describe(`attacks from sandboxes of the ${runtime} runtime`, () => {
    it("reach their aim where they may", () => {
      expect(told(({ isForbidden, reached }) => !isForbidden && !reached)).toEqual([]);
    });

    it.each(POLICIES)("fail under the rules: %s", (policy) => {
      expect(found.all.filter(({ place, isForbidden }) => place === policy && isForbidden).length).toBeGreaterThan(50);
      expect(told(({ place, isForbidden, reached }) => place === policy && isForbidden && reached)).toEqual([]);
    });

    it("are refused at once, not left without an answer", () => {
      const isLeft = ({ error }: { error: string }) => error === "timeout";
      expect(told(({ isForbidden, attack, outcome }) => isForbidden && !attack.isSilent && isLeft(outcome))).toEqual(
        [],
      );
    });

    it("send no packet to the attacker, and none ever to what keeps credentials", () => {
      expect(found.strayPackets).toEqual(Object.fromEntries(Object.keys(found.strayPackets).map((who) => [who, 0])));
    });
  });
}
