import { execFile } from "node:child_process";
import { chownSync, mkdtempSync, rmSync } from "node:fs";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { runGenerations, type Report } from "./generations.ts";

const NOBODY = 65_534;
const TIMEOUT_MS = 240_000;
const AS_NOBODY = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", "--"];
const isRoot = process.getuid?.() === 0;
const run = promisify(execFile);

/** Undefined where this machine can play an ordinary user who may make namespaces. */
async function whyNoUser(): Promise<string | undefined> {
  if (!isRoot) return "the tests run as one already";
  const [program, ...rest] = [
    ...AS_NOBODY,
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    process.execPath,
    "-e",
    "0",
  ];
  return run(program!, rest).then(
    () => undefined,
    (error: Error) => error.message,
  );
}
const noUser = await whyNoUser();
if (noUser !== undefined) console.log(`Layers are not tested as another user: ${noUser}`);

function expectExact(reports: Report[]): void {
  expect(reports.flatMap(({ wrong }) => wrong.slice(0, 3))).toEqual([]);
  expect(reports.length).toBe(5);
  expect(reports[0]!.entries).toBeGreaterThan(10_000);
  for (const { whiteouts, opaque, isSame, isStable } of reports) {
    expect([isSame, isStable]).toEqual([true, true]);
    // Each generation has to have some, or it would show nothing.
    expect(Math.min(whiteouts, opaque)).toBeGreaterThan(10);
  }
}

describe.concurrent("five generations of layers show what was there", () => {
  test(
    isRoot ? "as root" : "as an ordinary user",
    async () => {
      const directory = mkdtempSync("/tmp/sandbar-layers-");
      try {
        expectExact(await runGenerations(directory, 1));
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
    TIMEOUT_MS,
  );

  test.runIf(noUser === undefined)(
    "as an ordinary user, whose sandboxes have a root of their own",
    async () => {
      const directory = mkdtempSync("/tmp/sandbar-layers-");
      try {
        chownSync(directory, NOBODY, NOBODY);
        const [program, ...rest] = [
          ...AS_NOBODY,
          process.execPath,
          `${import.meta.dirname}/generations.ts`,
          directory,
          "2",
        ];
        const { stdout } = await run(program!, rest, { maxBuffer: 1 << 26 });
        expectExact(JSON.parse(stdout) as Report[]);
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
    TIMEOUT_MS,
  );
});
