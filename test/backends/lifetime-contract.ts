import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { codeOf, exec, runIn, type BackendUnderTest } from "./under-test.ts";

const wait = (ms: number) => new Promise((wake) => setTimeout(wake, ms));

/** The end that a backend brings about by itself, and the probes that are no use of a sandbox, whichever the backend. */
export function describeLifetime(under: BackendUnderTest): void {
  describe(`lifetime and probes of backend ${under.name}`, () => {
    const withContainer = (more: Partial<StartSpec>, run: (own: Backend) => Promise<void>) => runIn(under, more, run);

    // Beside its object a container has no other clock than the object's, and one of the platform's for when that is lost.
    const describeOwn = under.isBesideObject ? () => undefined : describe;
    describeOwn("the deadline", () => {
      it("ends the container by itself, and says so", async () => {
        await withContainer({ lifetime_ms: 300 }, async (own) => {
          await expect
            .poll(() => own.inspect(), { timeout: 10_000 })
            .toMatchObject({ kind: "exited", exit: { returncode: 124, oom: false, deadline: true } });
          expect(await codeOf(own.setDeadline({ revision: 1, remainingMs: 60_000 }))).toBe("sandbox_ended");
        });
      });

      it("can be put off and brought forward, and what was overtaken is not heard", async () => {
        await withContainer({ lifetime_ms: 1500 }, async (own) => {
          await own.setDeadline({ revision: 2, remainingMs: 60_000 });
          await own.setDeadline({ revision: 1, remainingMs: 1 });
          await wait(2500);
          expect(await own.inspect()).toMatchObject({ kind: "running" });
          await own.setDeadline({ revision: 3, remainingMs: 1 });
          await expect
            .poll(() => own.inspect(), { timeout: 10_000 })
            .toMatchObject({ kind: "exited", exit: { deadline: true } });
        });
      });
    });

    it("takes another deadline for a container that runs, and for no other", async () => {
      await withContainer({}, async (own) => {
        await own.setDeadline({ revision: 1, remainingMs: 600_000 });
        expect((await exec(own, ["true"])).returncode).toBe(0);
        await own.stop();
        expect(await codeOf(own.setDeadline({ revision: 2, remainingMs: 600_000 }))).toBe("sandbox_ended");
      });
    });

    it("runs probes that are no use of the sandbox and leave nothing behind", async () => {
      await withContainer({}, async (own) => {
        await exec(own, ["true"]);
        await wait(1200);
        const probe = { is_probe: true, stdout: "ignore", stderr: "ignore", timeout_ms: 10_000 } as const;
        expect((await exec(own, ["sh", "-c", "exit 4"], probe)).returncode).toBe(4);
        const running = exec(own, ["sleep", "1"], probe);
        await wait(300);
        const status = await own.inspect();
        expect(status).toMatchObject({ kind: "running", busy: false });
        expect(status.kind === "running" && status.idle_ms).toBeGreaterThanOrEqual(1200);
        expect((await running).returncode).toBe(0);
        await own.probePort(9);
        expect(await own.inspect()).toMatchObject({ busy: false });
        await expect.poll(async () => (await own.processes()).length).toBe(1);
        const after = await own.inspect();
        expect(after.kind === "running" && after.idle_ms).toBeGreaterThanOrEqual(2000);
      });
    });
  });
}
