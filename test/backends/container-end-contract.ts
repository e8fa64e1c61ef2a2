import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { newId } from "../../src/contract/ids.ts";
import { eventsOf } from "./events-of.ts";
import { codeOf, exec, readText, startSpec, stream, type BackendUnderTest } from "./under-test.ts";

/** The entrypoint, and what is left of processes when their container has ended, whichever the backend. */
export function describeContainerEnd(under: BackendUnderTest): void {
  describe(`entrypoint and end of backend ${under.name}`, () => {
    describe("the entrypoint", () => {
      const withEntrypoint = async (entrypoint: string[], run: (own: Backend) => Promise<void>, more = {}) => {
        const id = newId("sandbox");
        const own = under.open(id);
        try {
          const spec = startSpec(under.image, id, { entrypoint, ...more });
          expect(await own.start(spec)).toMatchObject({ kind: "launched" });
          await run(own);
        } finally {
          await own.stop();
        }
      };

      it("is the process main, and no activity", async () => {
        await withEntrypoint(["sh", "-c", "echo from-main; sleep 60"], async (own) => {
          await expect.poll(() => readText(own.output("main", "stdout", 0, false))).toBe("from-main\n");
          expect(await own.process("main")).toMatchObject({ process_id: "main", returncode: null });
          expect((await own.processes()).map(({ process_id }) => process_id)).toEqual(["main"]);
          expect(await own.inspect()).toMatchObject({ kind: "running", busy: false });
          const running = await exec(own, ["sleep", "60"], {}, 0);
          expect(await own.inspect()).toMatchObject({ kind: "running", busy: true });
          await own.signal("main", "SIGKILL");
          expect(await own.process("main", 10_000)).toMatchObject({ returncode: 137 });
          await expect
            .poll(() => own.inspect())
            .toMatchObject({ kind: "exited", exit: { returncode: 137, oom: false } });
          expect(await own.process(running.process_id, 5000)).toMatchObject({
            returncode: 137,
            finish_reason: "sandbox_ended",
          });
        });
      });

      it("is read and told how it ended after the container is gone", async () => {
        await withEntrypoint(["sh", "-c", "echo said; exit 3"], async (own) => {
          await expect.poll(() => own.inspect()).toMatchObject({ kind: "exited", exit: { returncode: 3 } });
          expect(await codeOf(exec(own, ["true"]))).toBe("sandbox_ended");
          await own.stop();
          expect(await own.process("main")).toMatchObject({ returncode: 3, finish_reason: "exited", stdout_bytes: 5 });
          expect(await readText(own.output("main", "stdout", 0, true))).toBe("said\n");
        });
      });

      it("has a terminal when it is given one", async () => {
        const more = { pty: { rows: 30, cols: 90 } };
        const run = async (own: Backend) => {
          await expect.poll(() => readText(own.output("main", "stdout", 0, false))).toBe("30 90\r\n");
        };
        await withEntrypoint(["sh", "-c", "stty size; sleep 60"], run, more);
      });

      it("is no process where there is none", async () => {
        const id = newId("sandbox");
        const without = under.open(id);
        await without.start(startSpec(under.image, id));
        expect(await codeOf(without.process("main"))).toBe("process_not_found");
        await without.stop();
      });
    });

    it("can still be read after the container was stopped, which ended them", async () => {
      const id = newId("sandbox");
      const own = under.open(id);
      await own.start(startSpec(under.image, id));
      const running = await exec(own, ["cat"], { open_stdin: true, stdin: btoa("kept") }, 0);
      await expect.poll(() => readText(own.output(running.process_id, "stdout", 0, false))).toBe("kept");
      const follower = readText(own.output(running.process_id, "stdout", 0, true));
      await own.stop();
      expect(await follower).toBe("kept");
      expect(await own.process(running.process_id)).toMatchObject({
        returncode: 137,
        finish_reason: "sandbox_ended",
        stdout_bytes: 4,
      });
      expect(await readText(own.output(running.process_id, "stdout", 1, true))).toBe("ept");
      const events = eventsOf(await readText(own.events(running.process_id, { stdout: 4, stderr: 0 })));
      expect(events).toMatchObject([{ event: "exit", data: { finish_reason: "sandbox_ended" } }]);
      const late = await codeOf(own.writeStdin(running.process_id, stream("x"), { eof: false }));
      expect(["sandbox_ended", "process_ended"]).toContain(late);
    });
  });
}
