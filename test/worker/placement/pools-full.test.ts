import { env, runInDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import type { Bookings } from "../../../src/placement/bookings.ts";
import { Inventory } from "../../../src/placement/inventory.ts";
import { Pools } from "../../../src/placement/pools.ts";
import { createTables } from "../../../src/placement/schema.ts";
import { forgetHosts } from "../client.ts";

const NOW = 1_900_000_000_000;

it("pools that find no room look for it now and then, however much else changes", async () => {
  await forgetHosts();
  await runInDurableObject(env.PLACEMENT.get(env.PLACEMENT.idFromName("main")), (_, { storage: { sql } }) => {
    createTables(sql);
    let looks = 0;
    const place = () => void (looks += 1);
    const pools = new Pools(sql, { place } as unknown as Bookings, new Inventory(sql, NOW));
    const pool = { environment: "main", createdAt: NOW, failures: 0, retryAt: 0 };
    for (const poolId of ["full", "other"]) pools.put({ ...pool, poolId, create: { size: 5, image: poolId } }, NOW);
    const before = looks;
    for (let at = 1; at < 100; at += 1) {
      pools.put({ ...pool, poolId: "other", create: { size: 0, image: "other" } }, NOW + at);
    }
    expect(looks).toBe(before);
    pools.converge(NOW + 1100);
    expect(looks).toBe(before + 1);
    pools.hostsChanged();
    pools.converge(NOW + 1200);
    expect(looks).toBe(before + 2);
  });
});
