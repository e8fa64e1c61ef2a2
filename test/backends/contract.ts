import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { newId } from "../../src/contract/ids.ts";
import { describeContainerEnd } from "./container-end-contract.ts";
import { describeFiles } from "./files-contract.ts";
import { describeLifetime } from "./lifetime-contract.ts";
import { describeNetwork } from "./network-contract.ts";
import { describeProcesses } from "./process-contract.ts";
import { bytes, codeOf, exec, open, startSpec, stream, text, type BackendUnderTest } from "./under-test.ts";

/** What every backend does, whichever it is. The fake and the real ones pass the same. */
export function describeBackend(under: BackendUnderTest): void {
  describeProcesses(under);
  describeFiles(under);
  describeContainerEnd(under);
  describeLifetime(under);
  describeNetwork(under);

  describe(`backend ${under.name}`, () => {
    const sandboxId = newId("sandbox");
    const backend = under.open(sandboxId);

    beforeAll(async () => {
      expect(await backend.start(startSpec(under.image, sandboxId))).toMatchObject({ kind: "launched" });
    });
    afterAll(() => backend.stop());

    it("finds the container that the same generation made", async () => {
      expect(await backend.start(startSpec(under.image, sandboxId))).toMatchObject({ kind: "adopted" });
      expect(await backend.inspect()).toMatchObject({ kind: "running", generation: 1 });
    });

    it.each([
      [["true"], 0],
      [["false"], 1],
      [["sh", "-c", "exit 3"], 3],
      [["sh", "-c", "kill -9 $$"], 137],
      [["sh", "-c", "kill -15 $$"], 143],
      [["no-such-program"], 127],
    ])("answers the return code of %j", async (command, returncode) => {
      expect(await exec(backend, command)).toMatchObject({ returncode, timed_out: false });
    });

    it("says on stderr why a program cannot be run", async () => {
      const { output } = await exec(backend, ["no-such-program"]);
      expect(text(output?.stderr)).toContain("no-such-program");
      expect(output?.stdout).toBe("");
    });

    it("keeps stdout and stderr apart", async () => {
      const status = await exec(backend, ["sh", "-c", "echo out; echo err >&2"]);
      expect([text(status.output?.stdout), text(status.output?.stderr)]).toEqual(["out\n", "err\n"]);
      expect(status).toMatchObject({ stdout_bytes: 4, stderr_bytes: 4 });
    });

    it("hands over argv, stdin, env and workdir exactly", async () => {
      const words = ["a b", "", "'\"$HOME`\\", "ä\n\tü"];
      expect(text((await exec(backend, ["echo", ...words])).output?.stdout)).toBe(`${words.join(" ")}\n`);
      const binary = Uint8Array.from({ length: 4096 }, (_, index) => index % 256);
      const echoed = await exec(backend, ["cat"], { stdin: btoa(String.fromCharCode(...binary)) });
      expect(bytes(echoed.output?.stdout)).toEqual(binary);
      const env = { VALUE: 'it\'s "quoted"' };
      expect(text((await exec(backend, ["printenv", "VALUE"], { env })).output?.stdout)).toBe(`${env.VALUE}\n`);
      expect(text((await exec(backend, ["printenv", "FROM_START"])).output?.stdout)).toBe("start\n");
      expect(text((await exec(backend, ["pwd"], { workdir: "/tmp" })).output?.stdout)).toBe("/tmp\n");
    });

    it("gives a process without stdin its end at once", async () => {
      expect(await exec(backend, ["cat"])).toMatchObject({ returncode: 0, stdout_bytes: 0 });
    });

    it("kills the process when its time is up", async () => {
      expect(await exec(backend, ["sleep", "60"], { timeout_ms: 200 })).toMatchObject({
        returncode: 137,
        timed_out: true,
      });
    });

    it("starts a process of the same id once", async () => {
      const process_id = newId("process");
      const first = await exec(backend, ["sleep", "60"], { process_id }, 0);
      expect(first.returncode).toBeNull();
      expect((await exec(backend, ["false"], { process_id }, 0)).returncode).toBeNull();
      await backend.signal(process_id, "SIGKILL");
      expect(await backend.process(process_id, 5000)).toMatchObject({ returncode: 137 });
    });

    it("answers when the time to wait is up, and signals end a process", async () => {
      const started = await exec(backend, ["sleep", "60"], {}, 100);
      expect(started.returncode).toBeNull();
      expect(await backend.inspect()).toMatchObject({ kind: "running", busy: true });
      expect((await backend.processes()).map((process) => process.process_id)).toContain(started.process_id);
      await backend.signal(started.process_id, "SIGTERM");
      expect(await backend.process(started.process_id, 5000)).toMatchObject({ returncode: 143, timed_out: false });
      await backend.signal(started.process_id, "SIGTERM");
      expect(await backend.inspect()).toMatchObject({ busy: false });
    });

    it("does not know processes that never were", async () => {
      expect(await codeOf(backend.process(newId("process")))).toBe("process_not_found");
    });

    it("starts another from a snapshot", async () => {
      await backend.writeFile("/root/kept.txt", stream("from the snapshot"), {});
      const imageId = newId("image");
      await backend.snapshot({ imageId, stop: false });
      await backend.writeFile("/root/kept.txt", stream("changed later"), {});
      const copyId = newId("sandbox");
      const copy = under.open(copyId);
      try {
        expect(await copy.start(startSpec(under.image, copyId, { image: imageId }))).toMatchObject({
          kind: "launched",
        });
        expect(await new Response((await copy.readFile("/root/kept.txt")).body).text()).toBe("from the snapshot");
      } finally {
        await copy.stop();
      }
    });

    it.each([
      ["a missing image", { image: "localhost:1/missing-image:1" }],
      ["an unknown snapshot", { image: "im-aaaaaaaaaaaaaaaaaaaaaa" }],
      ["a missing entrypoint", { entrypoint: ["/nope"] }],
    ])("fails for good with %s and leaves nothing", async (_, more) => {
      const failedId = newId("sandbox");
      const failed = under.open(failedId);
      const outcome = await failed.start(startSpec(under.image, failedId, more));
      expect(outcome).toMatchObject({ kind: "failed" });
      expect(outcome.kind === "failed" && outcome.error.length).toBeGreaterThan(10);
      expect(await failed.inspect()).toEqual({ kind: "gone" });
    });

    it("finds no port open where nothing listens", async () => {
      expect(await backend.probePort(9)).toBe(false);
    });

    // What connects beside its object does so through the whole product.
    const itConnects = under.isBesideObject ? () => undefined : it;
    itConnects(
      "says that nothing answers on a port, or that there is none any more, in place of an answer",
      async () => {
        const connect = (to: Backend) => codeOf(to.connect(9, new Request("http://9.test/"), "198.51.100.7"));
        expect(await connect(backend)).toBe("port_unreachable");
        expect(await codeOf(backend.connect(9, new Request("http://9.test/", { method: "HEAD" })))).toBe(
          "port_unreachable",
        );
        const ended = under.open(newId("sandbox"));
        expect(await connect(ended)).toBe("sandbox_ended");
      },
    );

    it("lets a stop that overtakes its start win", async () => {
      const overtakenId = newId("sandbox");
      const overtaken = under.open(overtakenId);
      await overtaken.stop();
      expect(await codeOf(overtaken.start(startSpec(under.image, overtakenId)))).toBe("sandbox_ended");
      expect(await overtaken.inspect()).toEqual({ kind: "gone" });
    });

    it("is gone after stop, and stop may be repeated", async () => {
      const goneId = newId("sandbox");
      const gone = under.open(goneId);
      await gone.start(startSpec(under.image, goneId));
      await gone.stop();
      await gone.stop();
      expect(await gone.inspect()).toEqual({ kind: "gone" });
      expect(await codeOf(exec(gone, ["true"]))).toBe("sandbox_ended");
      expect(await codeOf(gone.readFile("/etc/os-release"))).toBe("sandbox_ended");
      expect(await codeOf(gone.stat("/"))).toBe("sandbox_ended");
    });

    it("ends a watch along with the container, and without an error", async () => {
      const endsId = newId("sandbox");
      const ends = under.open(endsId);
      await ends.start(startSpec(under.image, endsId));
      const reader = (await open(await ends.watch("/tmp", false))).getReader();
      await reader.read();
      await ends.stop();
      let text = "";
      for (let next = await reader.read(); !next.done; next = await reader.read()) {
        text += new TextDecoder().decode(next.value);
      }
      expect(text).not.toContain("event: error");
    });
  });
}
