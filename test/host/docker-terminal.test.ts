import { afterAll, describe, expect, it } from "vitest";
import { DockerHost, exec, follow, makeImage, noEngine, removeImages, spawn } from "./docker-host.ts";
import { until } from "./signed-host.ts";

const SIZE = { rows: 40, cols: 100 };

describe.skipIf(noEngine !== undefined).each([true, false])(
  "terminal by a launcher: %s",
  { timeout: 30_000 },
  (useLauncher) => {
    const opened = DockerHost.open({ useLauncher });
    const idle = async () => (await opened).idle();
    afterAll(async () => (await opened).close());

    /** A process on a terminal, and what it shows. */
    const start = async (command: string[], more: object = {}) => {
      const process = await spawn(await idle(), command, { pty: SIZE, input: "open", ...more });
      const screen = follow(process.stdout.stream());
      const shows = (text: string) => until(() => screen.text.includes(text));
      process.stderr.stream().on("data", () => expect.unreachable());
      return { process, screen, shows };
    };
    /** Whether a process of these words is there; the pattern does not match the search itself. */
    const isThere = async (pattern: string) =>
      (await exec(await idle(), ["sh", "-c", `cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q '${pattern}'`]))
        .code === 0;

    it("is one, by all three streams, with its size", async () => {
      const script =
        "sleep 0.2; tty; stty size; test -t 0 && test -t 1 && test -t 2; echo $? $TERM; echo err >&2; exit 3";
      const { process, screen } = await start(["sh", "-c", script]);
      expect(await process.exited).toBe(3);
      await until(() => screen.text.endsWith("err\r\n"));
      expect(screen.text).toMatch(/^\/dev\/pts\/\d+\r\n40 100\r\n0 xterm-256color\r\nerr\r\n$/);
    });

    it("passes Ctrl-C to what runs in the foreground, and the shell goes on", async () => {
      const { process, shows } = await start(["sh", "-i"]);
      process.stdin.write("sleep 1234\n");
      await until(() => isThere("[s]leep 1234 "));
      process.stdin.write("\x03");
      process.stdin.write("echo back $((6 * 7))\n");
      await shows("back 42");
      expect(await isThere("[s]leep 1234 ")).toBe(false);
      process.stdin.write("exit 5\n");
      expect(await process.exited).toBe(5);
    });

    it("changes its size, and tells the program", async () => {
      const { process, shows } = await start([
        "sh",
        "-c",
        "trap 'stty size' WINCH; echo up; while :; do sleep 0.05; done",
      ]);
      await shows("up");
      await process.resize!({ rows: 12, cols: 34 });
      await shows("12 34");
      await process.kill("SIGKILL");
      expect(await process.exited).toBe(137);
      await process.resize!({ rows: 12, cols: 34 });
    });

    it("takes the end of the input for an end of transmission", async () => {
      const { process, screen } = await start(["cat"]);
      process.stdin.write("line\n");
      process.stdin.end();
      expect(await process.exited).toBe(0);
      await until(() => screen.text === "line\r\nline\r\n");
    });

    it("is not hung up on a program that closes its streams before it ends", async () => {
      const { process } = await start(["sh", "-c", "exec <&- >&- 2>&-; sleep 0.2; exit 5"]);
      expect(await process.exited).toBe(5);
    });

    it("shows what comes from a program that opens it again", async () => {
      const script = "echo one; exec <&- >&- 2>&-; sleep 0.2; echo two >/dev/tty; echo three >/dev/tty; exit 6";
      const { process, screen } = await start(["sh", "-c", script]);
      expect(await process.exited).toBe(6);
      // What the engine itself shows of that differs from one to the next.
      if (useLauncher) await until(() => screen.text === "one\r\ntwo\r\nthree\r\n");
    });

    it("hangs up on what is left on it", async () => {
      const { process } = await start(["sh", "-c", "sleep 1235 & exit 0"]);
      expect(await process.exited).toBe(0);
      await until(async () => !(await isThere("[s]leep 1235 ")));
    });

    it("says what cannot be run", async () => {
      const { process, shows } = await start(["nope"]);
      expect(await process.exited).toBe(127);
      await shows("not found");
    });

    it("is there for another user, too", async () => {
      const { process, screen } = await start(["sh", "-c", "id -u; echo x >$(tty)"], { user: "nobody" });
      expect(await process.exited).toBe(0);
      await until(() => screen.text === "65534\r\nx\r\n");
      const image = makeImage(`sandbar-test:tty-${useLauncher}`, "USER 1234");
      try {
        const container = await (await opened).start({ image });
        const other = await spawn(container, ["sh", "-c", "id -u; echo x >$(tty)"], { pty: SIZE, input: "open" });
        const seen = follow(other.stdout.stream());
        expect(await other.exited).toBe(0);
        await until(() => seen.text === "1234\r\nx\r\n");
        await container.stop();
      } finally {
        removeImages(image);
      }
    });
  },
);
