import { appendFileSync } from "node:fs";
import type { Reporter, TestModule } from "vitest/node";

/** Prints at the end what the tests ran on, and the one line that CI reads. */
export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0 };
    const skipped: string[] = [];
    const failed: string[] = [];
    const unstable: string[] = [];
    const perProject = new Map<string, number>();
    for (const module of modules) {
      if (module.errors().length > 0) {
        counts.failed += 1;
        failed.push(failureOf(module.moduleId, module.errors()));
      }
      for (const test of module.children.allTests()) {
        const result = test.result();
        const { state } = result;
        if (state === "passed" || state === "failed") counts[state] += 1;
        else counts.skipped += 1;
        if (result.state === "failed") failed.push(failureOf(`${module.moduleId}: ${test.fullName}`, result.errors));
        if (test.diagnostic()?.flaky)
          unstable.push(
            failureOf(`${module.moduleId}: ${test.fullName}`, result.errors ?? [], "passed only when run again"),
          );
        if (result.state === "skipped")
          skipped.push(`${test.fullName}: ${result.note ?? "this machine or user cannot"}`);
        perProject.set(module.project.name, (perProject.get(module.project.name) ?? 0) + (state === "passed" ? 1 : 0));
      }
    }
    const ranOn = {
      worker: "in workerd, on real Durable Objects, D1 and R2",
      backend: "in workerd, backends against real hosts",
      cloudflare: "on real containers beside their objects in workerd",
      host: "on real containers of this machine",
      e2e: "over HTTP, against `npm start`",
      faults: "while everything is killed at random, and the catalog fails",
    } as Record<string, string>;
    console.log();
    for (const [project, passed] of perProject) console.log(`${project}: ${passed} passed ${ranOn[project] ?? ""}`);
    for (const reason of skipped) console.log(`skipped: ${reason}`);
    for (const failure of [...unstable, ...failed]) console.log(failure);
    const line = `${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`;
    console.log(line);
    const file = process.env["SANDBAR_TEST_SUMMARY"];
    if (file) appendFileSync(file, [...unstable, ...failed, line].map((text) => `${text}\n`).join(""));
  }
}

const MAX_SHOWN = 2000;
// oxlint-disable-next-line no-control-regex -- the colours of a terminal
const COLOURS = /\u001b\[\d+m/g;

/** What failed and why, once more at the end: of a long run only that is kept. */
function failureOf(what: string, errors: readonly { message: string; diff?: string }[], how = "failed"): string {
  const why = errors.map(({ message, diff = "" }) => `${message}\n${diff}`.replaceAll(COLOURS, "").slice(0, MAX_SHOWN));
  return `${how}: ${what}\n${why.join("\n")}`;
}
