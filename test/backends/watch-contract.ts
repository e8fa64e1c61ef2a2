import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import type { WatchEvent } from "../../src/contract/file.ts";
import { eventsOf } from "./events-of.ts";
import { codeOf, exec, open, stream, text } from "./under-test.ts";

/** What a watch has told so far. */
class Watch {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  #text = "";
  /** Done when the stream is at its end. */
  readonly ended: Promise<void>;

  constructor(body: ReadableStream<Uint8Array>) {
    this.#reader = body.getReader();
    this.ended = this.#read();
    this.ended.catch(() => undefined);
  }

  get told(): WatchEvent[] {
    return eventsOf(this.#text).map(({ event, data }) => Object.assign({ event }, data) as WatchEvent);
  }

  /** Waits until it has told this. */
  async tells(event: WatchEvent): Promise<void> {
    await expect.poll(() => this.told, { timeout: 10_000 }).toContainEqual(event);
  }

  async close(): Promise<void> {
    await this.#reader.cancel().catch(() => undefined);
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for (;;) {
      const { value, done } = await this.#reader.read();
      if (done) return;
      this.#text += decoder.decode(value, { stream: true });
    }
  }
}

/** What happens to files, told as it happens. */
export function describeWatch(backend: Backend, hasShell: boolean): void {
  // A backend that runs no programs is asked what does not take any.
  const inShell = hasShell ? it : undefined;
  const write = (path: string) => backend.writeFile(path, stream("content"), {});
  const sh = async (script: string) => {
    const { output, returncode } = await exec(backend, ["sh", "-c", script]);
    expect([returncode, text(output?.stderr)]).toEqual([0, ""]);
  };
  const watching = async (path: string, recursive: boolean, run: (watch: Watch) => Promise<void>) => {
    const watch = new Watch(await open(await backend.watch(path, recursive)));
    try {
      await watch.tells({ event: "ready", path });
      expect(watch.told).toHaveLength(1);
      await run(watch);
    } finally {
      await watch.close();
    }
  };

  describe("a watch", () => {
    it("tells what is made, moved and removed", async () => {
      await backend.makeDirectory("/tmp/watch", true);
      await watching("/tmp/watch", false, async (watch) => {
        await backend.makeDirectory("/tmp/watch/it's", false);
        await watch.tells({ event: "create", path: "/tmp/watch/it's" });
        await backend.move("/tmp/watch/it's", "/tmp/watch/to");
        await watch.tells({ event: "rename", path: "/tmp/watch/to", from: "/tmp/watch/it's" });
        await backend.remove("/tmp/watch/to", false);
        await watch.tells({ event: "remove", path: "/tmp/watch/to" });
        await write("/tmp/watch/file");
        await expect.poll(() => watch.told.some(({ path }) => path === "/tmp/watch/file")).toBe(true);
      });
    });

    it("tells what comes in and goes out by a move", async () => {
      for (const folder of ["/tmp/watch-in", "/tmp/watch-out/dir"]) await backend.makeDirectory(folder, true);
      await watching("/tmp/watch-in", false, async (watch) => {
        await backend.move("/tmp/watch-out/dir", "/tmp/watch-in/dir");
        await watch.tells({ event: "create", path: "/tmp/watch-in/dir" });
        await backend.move("/tmp/watch-in/dir", "/tmp/watch-out/dir");
        await watch.tells({ event: "remove", path: "/tmp/watch-in/dir" });
        expect(watch.told.some(({ event }) => event === "rename")).toBe(false);
      });
    });

    it("goes below only if it is to", async () => {
      await backend.makeDirectory("/tmp/watch-deep/in", true);
      await watching("/tmp/watch-deep", false, async (shallow) => {
        await watching("/tmp/watch-deep", true, async (deep) => {
          await backend.makeDirectory("/tmp/watch-deep/in/below", false);
          await deep.tells({ event: "create", path: "/tmp/watch-deep/in/below" });
          // Also in what was made meanwhile, and where a move has taken it.
          await backend.makeDirectory("/tmp/watch-deep/new/er", true);
          await deep.tells({ event: "create", path: "/tmp/watch-deep/new" });
          await deep.tells({ event: "create", path: "/tmp/watch-deep/new/er" });
          await backend.move("/tmp/watch-deep/new/er", "/tmp/watch-deep/in/er");
          await deep.tells({ event: "rename", path: "/tmp/watch-deep/in/er", from: "/tmp/watch-deep/new/er" });
          await backend.makeDirectory("/tmp/watch-deep/in/er/last", false);
          await deep.tells({ event: "create", path: "/tmp/watch-deep/in/er/last" });
        });
        await backend.makeDirectory("/tmp/watch-deep/marker", false);
        await shallow.tells({ event: "create", path: "/tmp/watch-deep/marker" });
        expect(shallow.told.filter(({ path }) => path!.startsWith("/tmp/watch-deep/in/"))).toEqual([]);
      });
    });

    it("ends when what it watches is removed", async () => {
      await write("/tmp/watch-gone/file");
      await watching("/tmp/watch-gone", true, async (watch) => {
        await backend.remove("/tmp/watch-gone", true);
        await watch.ended;
        expect(watch.told).toContainEqual({ event: "remove", path: "/tmp/watch-gone/file" });
        expect(watch.told.at(-1)).toEqual({ event: "remove", path: "/tmp/watch-gone" });
      });
    });

    it("of a file tells of that file", async () => {
      await write("/tmp/watch-file");
      await watching("/tmp/watch-file", false, async (watch) => {
        await backend.remove("/tmp/watch-file", false);
        await watch.ended;
        expect(watch.told.at(-1)).toEqual({ event: "remove", path: "/tmp/watch-file" });
      });
    });

    it.each([
      ["/tmp/watch-none", "file_not_found"],
      ["/etc/os-release/below", "not_a_directory"],
    ])("of %s is %s", async (path, code) => {
      const opened = backend.watch(path, false).then(open);
      expect(await codeOf(opened)).toBe(code);
    });

    inShell?.("tells what processes do", async () => {
      await sh("mkdir -p /tmp/watch-sh && echo x > /tmp/watch-sh/old");
      await watching("/tmp/watch-sh", true, async (watch) => {
        await sh("cd /tmp/watch-sh && echo y >> old");
        await watch.tells({ event: "modify", path: "/tmp/watch-sh/old" });
        await sh("cd /tmp/watch-sh && echo x > new && mv new moved && chmod 600 moved");
        await watch.tells({ event: "create", path: "/tmp/watch-sh/new" });
        await watch.tells({ event: "rename", path: "/tmp/watch-sh/moved", from: "/tmp/watch-sh/new" });
        await watch.tells({ event: "modify", path: "/tmp/watch-sh/moved" });
        await sh("cd /tmp/watch-sh && mkdir -p a/b/c && echo x > a/b/c/file");
        for (const name of ["a", "a/b", "a/b/c", "a/b/c/file"]) {
          await watch.tells({ event: "create", path: `/tmp/watch-sh/${name}` });
        }
        await sh("cd /tmp/watch-sh && mv a z && echo x > z/b/late && rm old");
        await watch.tells({ event: "rename", path: "/tmp/watch-sh/z", from: "/tmp/watch-sh/a" });
        await watch.tells({ event: "create", path: "/tmp/watch-sh/z/b/late" });
        await watch.tells({ event: "remove", path: "/tmp/watch-sh/old" });
      });
    });
  });
}
