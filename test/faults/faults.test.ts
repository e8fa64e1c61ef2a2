import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { missingForEngine } from "./engine.ts";
import { Findings } from "./findings.ts";
import { Random } from "./random.ts";
import { FaultRun } from "./run.ts";
import { Tally } from "./tally.ts";

/** How many faults there are in all; `SANDBAR_FAULTS=2000` makes a long night of it. */
const FAULTS = Number(process.env["SANDBAR_FAULTS"] ?? 120);
/** The same seed gives the same operations and faults, if not the same interleaving. */
const SEED = Number(process.env["SANDBAR_FAULT_SEED"] ?? Date.now() % 1_000_000_000);
const RUN_MS = FAULTS * 3_000 + 120_000;

const missing = missingForEngine();
if (missing) console.warn(`The fault suite does not run on docker: ${missing}.`);
const wanted = process.env["SANDBAR_FAULT_RUNTIME"];
const RUNTIMES = (missing ? ["embedded" as const] : ["embedded" as const, "docker" as const]).filter(
  (runtime) => wanted === undefined || runtime === wanted,
);

const tally = new Tally();
const random = new Random(SEED);
console.log(`faults: SANDBAR_FAULT_SEED=${SEED}`);

afterAll(() => console.log(`\n${tally.table()}\n  seed ${SEED}`));

describe.each(RUNTIMES)("faults on the %s runtime", (runtime) => {
  let run: FaultRun;
  beforeAll(async () => {
    run = await FaultRun.start(runtime, random.fork(), tally);
  });
  afterAll(() => run?.close());

  it(
    "break no invariant, whatever clients are at",
    async () => {
      for (let round = 0; tally.total(runtime) < FAULTS / RUNTIMES.length; round += 1) await run.round(round);
      await run.end();
      expect(run.findings.report()).toBe("");
    },
    RUN_MS,
  );

  it("let deadlines hold: without the control plane, without the host, without both", async () => {
    const findings = new Findings();
    const deadlines = run.deadlines(findings);
    await deadlines.withoutControlPlane();
    await deadlines.withoutHost();
    await deadlines.withoutBoth();
    expect(findings.report()).toBe("");
  }, 120_000);
});
