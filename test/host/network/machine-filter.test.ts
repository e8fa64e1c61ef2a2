import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { machineRules } from "../../../src/host/docker/machine-filter.ts";
import { setRules } from "../../../src/host/network/nft.ts";
import { noLab } from "./lab.ts";
import { OwnNetwork } from "./own-network.ts";

const MODULE = `${import.meta.dirname}/../../../src/host/docker/machine-filter.ts`;
/** Loads another firewall, and says when ours is back. */
const FLUSHED = `
const { keepBridgeFiltered } = await import(${JSON.stringify(MODULE)});
const { execFileSync } = await import("node:child_process");
const rules = () => execFileSync("nft", ["list", "ruleset"]).toString();
await keepBridgeFiltered("sandbar0", 50);
const before = rules();
execFileSync("nft", ["flush", "ruleset"]);
const flushed = rules();
while (rules() !== before) await new Promise((wake) => setTimeout(wake, 20));
console.log(before.includes("169.254.0.0/16"), flushed.length);
process.exit(0);
`;
const FORBIDDEN = ["169.254.0.0/16", "172.18.0.0/16", "fd00:ec2::/32"];

describe("what containers are kept from by the machine's own filter", () => {
  it("is named also as addresses of IPv6 that lead there, and the machine's resolver is left out", () => {
    const rules = machineRules("sandbar0", { forbidden: FORBIDDEN, resolvers: ["10.0.0.53", "fd00::53"] });
    expect(rules).toMatch(/set forbidden6 \{[^}]*64:ff9b::a9fe:0\/112/);
    expect(rules).toMatch(/set resolvers4 \{[^}]*10\.0\.0\.53\/32/);
    expect(rules).toMatch(/set resolvers6 \{[^}]*fd00::53\/128/);
  });

  it.skipIf(noLab !== undefined)("can be set again and again, with resolvers and without", async () => {
    const box = await OwnNetwork.open();
    try {
      for (const resolvers of [["10.0.0.53", "fd00::53"], []])
        await setRules(machineRules("sandbar0", { forbidden: FORBIDDEN, resolvers }), box.namespace);
    } finally {
      box.close();
    }
  });

  it.skipIf(noLab !== undefined)("is set anew where another firewall has taken it away", async () => {
    const node = [process.execPath, "--input-type=module", "-e", FLUSHED];
    const { stdout } = await promisify(execFile)("unshare", ["--net", ...node], { timeout: 15_000 });
    expect(stdout).toBe("true 0\n");
  });
});
