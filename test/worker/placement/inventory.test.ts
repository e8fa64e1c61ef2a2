import { env, runInDurableObject } from "cloudflare:test";
import { beforeEach, expect, it } from "vitest";
import { Inventory } from "../../../src/placement/inventory.ts";
import { createTables } from "../../../src/placement/schema.ts";
import { forgetHosts } from "../client.ts";
import { hostId, reportOf, type HostOptions } from "./fleet.ts";

const NOW = 1_900_000_000_000;
const standing = { draining: false, keyVersion: 1 };

beforeEach(forgetHosts);

const withInventory = (run: (inventory: Inventory, sql: SqlStorage) => void) =>
  runInDurableObject(env.PLACEMENT.get(env.PLACEMENT.idFromName("main")), (_, { storage: { sql } }) => {
    createTables(sql);
    run(new Inventory(sql, NOW), sql);
  });

it("what kinds of hosts there are is not sought anew because of images", () =>
  withInventory((inventory) => {
    const report = (options: HostOptions, references: string[]) =>
      inventory.reported(reportOf("a", options, { references }), standing, [], NOW);
    report({}, ["one"]);
    const kinds = inventory.kinds(300_000, NOW);
    report({}, ["one", "two"]);
    expect(inventory.kinds(300_000, NOW)).toBe(kinds);
    report({ labels: { disk: "nvme" } }, ["one", "two"]);
    expect(inventory.kinds(300_000, NOW)).not.toBe(kinds);
  }));

it("hosts fall silent once, and are heard of again", () =>
  withInventory((inventory, sql) => {
    const report = (letter: string, at: number) => inventory.reported(reportOf(letter), standing, [], at);
    const silent = (at: number) => inventory.fallenSilent(at).map((host) => host.hostId);
    report("a", NOW);
    report("b", NOW + 10_000);
    expect(silent(NOW + 16_000)).toEqual([hostId("a")]);
    expect(silent(NOW + 16_000)).toEqual([]);
    expect(inventory.isAnyOpen).toBe(true);
    inventory.setDraining(hostId("b"), true, NOW + 16_000);
    expect(inventory.isAnyOpen).toBe(false);
    report("a", NOW + 17_000);
    expect(inventory.isAnyOpen).toBe(true);
    expect(silent(NOW + 40_000)).toEqual([hostId("a")]);
    // It may have reported until just before the object that knew of it was lost.
    const restored = new Inventory(sql, NOW + 40_000).fallenSilent(NOW + 60_000);
    expect(restored.map((host) => host.hostId)).toEqual([hostId("a")]);
  }));

it("a report that was on its way as a host was drained does not have it go on", () =>
  withInventory((inventory) => {
    const report = (draining: boolean, at: number) =>
      inventory.reported(reportOf("a"), { draining, keyVersion: 1 }, [], at).fleetHost.isOpen;
    report(false, NOW);
    inventory.setDraining(hostId("a"), true, NOW + 1000);
    expect(report(false, NOW + 1500)).toBe(false);
    expect(report(true, NOW + 6000)).toBe(false);
    // The catalog has the last word.
    expect(report(false, NOW + 12_000)).toBe(true);
  }));
