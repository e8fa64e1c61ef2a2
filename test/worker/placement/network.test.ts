import { describe, expect, it } from "vitest";
import { call, problemOf } from "../client.ts";
import { getSandbox, terminate } from "../sandboxes.ts";
import { report } from "./fleet.ts";
import { createOne, live, specOf, withoutHosts } from "./placing.ts";

withoutHosts();

const rules = { outbound_cidr_allowlist: ["192.0.2.0/24"] };
const patch = (sandboxId: string, json: object) => call("PATCH", `/v1/sandboxes/${sandboxId}`, { json });
const started = (sandboxId: string) =>
  expect.poll(async () => (await getSandbox(sandboxId)).state, { timeout: 8000 }).toBe("ready");
const cpuOn = async (letter: string) => (await live(letter)).cpu;

describe("a sandbox with rules for its network", () => {
  it("has its place where they can be held, however much room there is elsewhere", async () => {
    await report("a", { cpu: 64 });
    await report("b", { cpu: 4, networkRules: true });
    for (const create of [
      rules,
      { outbound_domain_allowlist: [] },
      { inbound_cidr_allowlist: [], unencrypted_ports: [80] },
    ])
      await started(await createOne({ ...create, cpu: 1 }));
    expect([await cpuOn("a"), await cpuOn("b")]).toEqual([0, 3]);
  });

  it("waits by the rules that it is given while it waits", async () => {
    await report("a", { cpu: 2 });
    const first = await createOne({ cpu: 2 });
    await started(first);
    const second = await createOne({ cpu: 2 });
    const refused = await problemOf(await patch(second, { ...rules, tags: { a: "1" } }));
    expect(refused).toMatchObject({ status: 422, errors: [{ path: "outbound_cidr_allowlist" }] });
    expect(await getSandbox(second)).toMatchObject({ state: "created", tags: {} });
    await report("b", { cpu: 2, networkRules: true });
    // That one has room now, and is taken by the one that waits.
    await started(second);
    const third = await createOne({ cpu: 2 });
    expect((await patch(third, rules)).status).toBe(200);
    await terminate(first);
    await expect.poll(() => cpuOn("a")).toBe(0);
    expect(await getSandbox(third)).toMatchObject({ state: "created", ...rules });
    await terminate(second);
    await started(third);
    expect(specOf(third).network).toEqual({ outbound: { cidrs: rules.outbound_cidr_allowlist, domains: [] } });
    expect([await cpuOn("a"), await cpuOn("b")]).toEqual([0, 2]);
  });
});
