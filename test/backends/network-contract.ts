import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { newId } from "../../src/contract/ids.ts";
import type { NetworkPolicy } from "../../src/contract/network.ts";
import { codeOf, exec, runIn, type BackendUnderTest } from "./under-test.ts";

const CUT_OFF: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };

/** The rules of a sandbox's network, whichever the backend. */
export function describeNetwork(under: BackendUnderTest): void {
  describe(`network of backend ${under.name}`, () => {
    const withContainer = (more: Partial<StartSpec>, run: (own: Backend) => Promise<void>) => runIn(under, more, run);

    it("takes other rules for a container that runs, where it can, and for no other", async () => {
      await withContainer({}, async (own) => {
        const expected = under.hasFixedNetwork ? "unsupported_by_backend" : "no error";
        expect(await codeOf(own.setNetwork({ revision: 1, policy: CUT_OFF }))).toBe(expected);
        expect((await exec(own, ["true"])).returncode).toBe(0);
        await own.stop();
        expect(await codeOf(own.setNetwork({ revision: 2, policy: {} }))).toBe("sandbox_ended");
      });
      expect(await codeOf(under.open(newId("sandbox")).setNetwork({ revision: 1, policy: {} }))).toBe("sandbox_ended");
    });

    const { outside } = under;
    if (!outside || under.hasFixedNetwork) return;
    const reaches = async (own: Backend) => (await exec(own, outside.reach)).returncode === 0;
    const range = `${outside.address}/${outside.address.includes(":") ? 128 : 32}`;

    it("has them hold once it says so, and does not hear what was overtaken", async () => {
      await withContainer({}, async (own) => {
        expect(await reaches(own)).toBe(true);
        await own.setNetwork({ revision: 2, policy: CUT_OFF });
        expect(await reaches(own)).toBe(false);
        await own.setNetwork({ revision: 1, policy: {} });
        expect(await reaches(own)).toBe(false);
        await own.setNetwork({ revision: 3, policy: { outbound: { cidrs: [range], domains: [] } } });
        expect(await reaches(own)).toBe(true);
        await own.setNetwork({ revision: 4, policy: { outbound: { cidrs: ["192.0.2.0/24"], domains: [] } } });
        expect(await reaches(own)).toBe(false);
        await own.setNetwork({ revision: 5, policy: {} });
        expect(await reaches(own)).toBe(true);
      });
    });

    it("has those that it was started with hold from the start", async () => {
      await withContainer({ network: CUT_OFF }, async (own) => {
        expect(await reaches(own)).toBe(false);
        await own.setNetwork({ revision: 1, policy: {} });
        expect(await reaches(own)).toBe(true);
      });
    });
  });
}
