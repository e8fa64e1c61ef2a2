import { afterAll, describe, expect, it } from "vitest";
import type { StartSpec } from "../../src/contract/host-protocol.ts";
import { StartFailure } from "../../src/host/runtime.ts";
import { bytes, DockerHost, exec, follow, makeImage, noEngine, removeImages, sh, spec } from "./docker-host.ts";
import { until } from "./signed-host.ts";

describe.skipIf(noEngine !== undefined).each([true, false])(
  "entrypoint by a launcher: %s",
  { timeout: 30_000 },
  (useLauncher) => {
    const opened = DockerHost.open({ useLauncher });
    const start = async (more: Partial<StartSpec>) => (await opened).start(more);
    afterAll(async () => (await opened).close());

    it.each([
      ["exit 7", 7],
      ["kill -9 $$", 137],
      ["kill -15 $$", 143],
    ])("`%s` ends with %i", async (script, code) => {
      const container = await start({ entrypoint: ["sh", "-c", script] });
      expect(await container.main!.exited).toBe(code);
      expect(await container.exited).toEqual({ returncode: code, oom: false });
    });

    it("is a process with output of its own, from its first byte", async () => {
      const script = "pwd; echo $A; cat; echo err >&2; exit 3";
      const container = await start({ entrypoint: ["sh", "-c", script], env: { A: "b" }, workdir: "/made/new" });
      const main = container.main!;
      const output = Promise.all([bytes(main.stdout.stream()), bytes(main.stderr.stream())]);
      expect(await main.exited).toBe(3);
      main.release();
      expect((await output).map(String)).toEqual(["/made/new\nb\n", "err\n"]);
    });

    it("is signalled, and ends its container", async () => {
      const script = "trap 'exit 42' TERM; echo up; while :; do sleep 0.05; done";
      const container = await start({ entrypoint: ["sh", "-c", script] });
      const main = container.main!;
      const seen = follow(main.stdout.stream());
      await until(() => seen.text === "up\n");
      await main.kill("SIGTERM");
      expect(await main.exited).toBe(42);
      expect(await container.exited).toEqual({ returncode: 42, oom: false });
    });

    it("goes down with its container", async () => {
      const container = await start({ entrypoint: ["sleep", "100"] });
      await container.stop();
      expect(await container.exited).toEqual({ returncode: 137, oom: false });
      expect(await container.main!.exited).toBe(undefined);
      await container.main!.kill("SIGTERM");
    });

    it("tells that it was out of memory, and what else was is not taken for it", async () => {
      const script = "x=bytearray(10**9)";
      const container = await start({ entrypoint: ["python3", "-c", script], memory: 32 });
      expect(await container.main!.exited).toBe(137);
      expect(await container.exited).toEqual({ returncode: 137, oom: true });
      expect(container.oomKills()).toBeGreaterThan(0);
      const idler = await start({ memory: 32 });
      expect(idler.oomKills()).toBe(0);
      expect((await exec(idler, ["python3", "-c", script])).code).toBe(137);
      expect(idler.oomKills()).toBe(1);
      expect((await exec(idler, ["true"])).code).toBe(0);
    });

    it.each([
      [["nope"], /nope.*not found/],
      [["/no/such"], /\/no\/such.*not found/],
      [["/etc/passwd/x"], /not found/],
      [["/etc/passwd"], /\/etc\/passwd.*(permission denied|not executable)/],
      [["/etc"], /(is a directory|not executable)/],
    ])("%j fails the start and leaves nothing", async (entrypoint, reason) => {
      const host = await opened;
      const before = host.left();
      const failure = await host.runtime.start(spec({ entrypoint })).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(StartFailure);
      expect((failure as Error).message).toMatch(/^[Tt]he entrypoint/);
      expect((failure as Error).message).toMatch(reason);
      expect(host.left()).toBe(before);
    });

    it("runs as the image's user, in the image's folder, with the image's variables", async () => {
      const name = `sandbar-test:user-${useLauncher}`;
      const image = makeImage(name, "USER 1234:55", "WORKDIR /var/tmp", "ENV OF_IMAGE=yes foo.bar=odd");
      try {
        const who = "id -u; id -g; pwd; echo $HOME $OF_IMAGE; touch mine";
        const want = "1234\n55\n/var/tmp\n/ yes\n";
        const container = await start({ image, entrypoint: ["sh", "-c", `${who}; exec sleep 100`] });
        const seen = follow(container.main!.stdout.stream());
        await until(() => seen.text === want);
        expect(await sh(container, who)).toEqual({ stdout: want, stderr: "", code: 0 });
        // No shell hands this one on.
        expect((await exec(container, ["env"])).stdout).toContain("foo.bar=odd\n");
        expect(await exec(container, ["id", "-u"], { user: "0" })).toMatchObject({ stdout: "0\n" });
        await container.main!.kill("SIGKILL");
        expect(await container.exited).toEqual({ returncode: 137, oom: false });
        await container.stop();
      } finally {
        removeImages(image);
      }
    });

    it("has a terminal where that can be, and else is refused one", async () => {
      const wanted = { entrypoint: ["sh", "-c", "tty; stty size; exit 6"], pty: { rows: 30, cols: 90 } };
      if (!useLauncher) return expect(start(wanted)).rejects.toMatchObject({ code: "unsupported_by_backend" });
      const container = await start(wanted);
      const seen = follow(container.main!.stdout.stream());
      expect(await container.exited).toEqual({ returncode: 6, oom: false });
      await until(() => seen.text === "/dev/pts/0\r\n30 90\r\n");
    });
  },
);
