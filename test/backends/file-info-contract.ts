import { describe, expect, it } from "vitest";
import type { Backend } from "../../src/backends/backend.ts";
import { FileInfoSchema, type FileInfo } from "../../src/contract/file.ts";
import { codeOf, exec, stream, text } from "./under-test.ts";

/** What is said of files, and of what directories hold. */
export function describeFileInfo(backend: Backend, hasShell: boolean): void {
  // A backend that runs no programs is asked what does not take any.
  const inShell = hasShell ? it : undefined;
  const write = (path: string, mode?: string) =>
    backend.writeFile(path, stream("content"), mode === undefined ? {} : { mode });
  const pathsOf = (data: FileInfo[]) => data.map(({ path }) => path);
  const list = (path: string, more: { depth?: number; limit?: number; after?: string } = {}) =>
    backend.list(path, { depth: 1, limit: 1000, ...more });
  const sh = async (script: string) => {
    const { output, returncode } = await exec(backend, ["sh", "-c", script]);
    expect([returncode, text(output?.stderr)]).toEqual([0, ""]);
    return text(output?.stdout);
  };

  describe("what stat says", () => {
    it("of a file is what it is", async () => {
      await write("/tmp/stat/it's.txt", "640");
      const info = await backend.stat("/tmp/stat/it's.txt");
      expect(FileInfoSchema.parse(info)).toMatchObject({
        name: "it's.txt",
        path: "/tmp/stat/it's.txt",
        type: "file",
        size: 7,
        mode: "640",
        permissions: "-rw-r-----",
      });
      expect(Math.abs(Date.parse(info.modified_at) - Date.now())).toBeLessThan(60_000);
      expect(info).not.toHaveProperty("symlink_target");
    });

    it("of a directory is that it is one, the root among them", async () => {
      expect(await backend.stat("/tmp")).toMatchObject({ name: "tmp", path: "/tmp", type: "directory" });
      expect(await backend.stat("/")).toMatchObject({ name: "/", path: "/", type: "directory" });
    });

    it.each([
      ["/tmp/stat-none", "file_not_found"],
      ["/tmp/stat-none/below", "file_not_found"],
      ["/etc/os-release/below", "not_a_directory"],
    ])("of %s is %s", async (path, code) => {
      expect(await codeOf(backend.stat(path))).toBe(code);
    });

    inShell?.("of a link is the link itself", async () => {
      await sh("mkdir -p /tmp/links && cd /tmp/links && touch file && ln -s file to-file && ln -s /nowhere dangling");
      expect(await backend.stat("/tmp/links/to-file")).toMatchObject({
        type: "symlink",
        size: 4,
        permissions: "lrwxrwxrwx",
        symlink_target: "file",
      });
      expect(await backend.stat("/tmp/links/dangling")).toMatchObject({ symlink_target: "/nowhere" });
    });

    inShell?.("is what stat says inside", async () => {
      await sh(`mkdir -p /tmp/inside && cd /tmp/inside && printf 12345 > file && mkdir folder sticky && ln -s file link
        mkfifo fifo; printf x > setuid; printf x > owned; printf x > theirs; printf x > old; printf x > bare
        chmod 4755 setuid; chmod 1777 sticky; chmod 000 bare; touch -d '2001-02-03 04:05:06.123456789' old
        chown 12345:54321 owned 2>&- || :; chown nobody theirs 2>&- || :`);
      const names = ["file", "folder", "sticky", "link", "fifo", "setuid", "owned", "theirs", "old", "bare"];
      const paths = [...names.map((name) => `/tmp/inside/${name}`), "/dev/null", "/etc/os-release", "/"];
      for (const path of paths) {
        const { output } = await exec(backend, ["stat", "-c", "%a|%A|%s|%U|%u|%G|%g|%.9Y", path]);
        const [mode, permissions, size, user, uid, group, gid, mtime] = text(output?.stdout).trim().split("|");
        const { modified_at, ...info } = await backend.stat(path);
        expect(info, path).toMatchObject({
          mode,
          permissions,
          size: Number(size),
          owner: user === "UNKNOWN" ? uid : user,
          group: group === "UNKNOWN" ? gid : group,
        });
        const [seconds, nanoseconds] = mtime!.split(".");
        expect(Math.floor(Date.parse(modified_at) / 1000), path).toBe(Number(seconds));
        // As far as the sandbox tells.
        const fraction = /\.(\d+)Z$/.exec(modified_at)?.[1] ?? "";
        expect(nanoseconds!.startsWith(fraction), `${path}: ${modified_at}`).toBe(true);
      }
      expect(await backend.stat("/tmp/inside/fifo")).toMatchObject({ type: "other" });
      expect(await backend.stat("/dev/null")).toMatchObject({ type: "other" });
    });
  });

  describe("a list", () => {
    const under = (folder: string, ...names: string[]) => names.map((name) => `${folder}/${name}`);

    it("goes down as far as it is asked to, in the order of the paths", async () => {
      const folder = "/tmp/list";
      const files = under(folder, "b", "a/one", "a/deep/two", "a b", "a.txt", "a/deep/er/three", "\u{1F600}", "\uFF5E");
      for (const path of files) await write(path);
      const shallow = under(folder, "a", "a b", "a.txt", "b", "\u{1F600}", "\uFF5E");
      expect(await list(folder)).toMatchObject({ more: false, data: shallow.map((path) => ({ path })) });
      const two = under(folder, "a", "a b", "a.txt", "a/deep", "a/one", "b", "\u{1F600}", "\uFF5E");
      expect(pathsOf((await list(folder, { depth: 2 })).data)).toEqual(two);
      const all = [...two, ...under(folder, "a/deep/er", "a/deep/er/three", "a/deep/two")].sort();
      const { data } = await list(folder, { depth: 100 });
      expect(pathsOf(data)).toEqual(all);
      for (const info of data) expect(info).toEqual(await backend.stat(info.path));
    });

    it("comes in pages", async () => {
      const folder = "/tmp/pages";
      for (const name of ["1", "2", "3", "4", "5"]) await write(`${folder}/${name}`);
      const first = await list(folder, { limit: 2 });
      expect([pathsOf(first.data), first.more]).toEqual([under(folder, "1", "2"), true]);
      const second = await list(folder, { limit: 2, after: `${folder}/2` });
      expect([pathsOf(second.data), second.more]).toEqual([under(folder, "3", "4"), true]);
      await backend.remove(`${folder}/4`, false);
      const third = await list(folder, { limit: 2, after: `${folder}/4` });
      expect([pathsOf(third.data), third.more]).toEqual([under(folder, "5"), false]);
      const exact = await list(folder, { limit: 4 });
      expect([exact.data.length, exact.more]).toEqual([4, false]);
      expect(await list(folder, { after: `${folder}/5` })).toEqual({ data: [], more: false });
    });

    it("may be empty", async () => {
      await backend.makeDirectory("/tmp/empty list", false);
      expect(await list("/tmp/empty list", { depth: 5 })).toEqual({ data: [], more: false });
    });

    it("has the paths of the root without a second slash", async () => {
      const { data } = await list("/");
      expect(pathsOf(data)).toContain("/tmp");
    });

    it.each([
      ["/tmp/list-none", "file_not_found"],
      ["/etc/os-release", "not_a_directory"],
      ["/etc/os-release/below", "not_a_directory"],
    ])("of %s is %s", async (path, code) => {
      expect(await codeOf(list(path))).toBe(code);
    });

    inShell?.("follows a link that it is asked for, and none below", async () => {
      await sh("mkdir -p /tmp/linked/in && cd /tmp/linked && touch in/file && ln -s in there && ln -s . in/up");
      const { data } = await list("/tmp/linked/there", { depth: 100 });
      expect(pathsOf(data)).toEqual(under("/tmp/linked/there", "file", "up"));
      expect(data[1]).toMatchObject({ type: "symlink", symlink_target: "." });
    });

    inShell?.("shows what is not UTF-8 as U+FFFD", async () => {
      await sh(`mkdir -p /tmp/bytes && cd /tmp/bytes && touch "$(printf 'a\\377b')"`);
      expect(pathsOf((await list("/tmp/bytes")).data)).toEqual(["/tmp/bytes/a\uFFFDb"]);
    });
  });

  (hasShell ? describe : undefined)?.("a link", () => {
    it("is moved and removed itself", async () => {
      await sh("mkdir -p /tmp/own/in && cd /tmp/own && touch in/file && ln -s in link && ln -s in other");
      await backend.move("/tmp/own/link", "/tmp/own/moved");
      expect(await backend.stat("/tmp/own/moved")).toMatchObject({ type: "symlink", symlink_target: "in" });
      await backend.remove("/tmp/own/moved", true);
      await backend.remove("/tmp/own/other", false);
      expect(pathsOf((await list("/tmp/own", { depth: 2 })).data)).toEqual(["/tmp/own/in", "/tmp/own/in/file"]);
    });

    it("among what is removed takes along nothing that it leads to", async () => {
      await sh(
        "mkdir -p /tmp/gone/in /tmp/stays-here && cd /tmp/gone && touch ../stays-here/file && ln -s ../stays-here in/up",
      );
      await backend.remove("/tmp/gone", true);
      expect(pathsOf((await list("/tmp/stays-here")).data)).toEqual(["/tmp/stays-here/file"]);
    });
  });
}
