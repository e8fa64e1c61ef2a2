import { describe, expect, test } from "vitest";
import { BOXES, canRun, treeBox, type BoxName } from "./tree-boxes.ts";

const NAMES = ["with space", "new\nline", "ends\n", "-dash", "it's", "$(id)", "ü", ".x"];

// Changes are never made from outside of the container: whether it may be looked into is no matter to them.
for (const name of (Object.keys(BOXES) as BoxName[]).filter((one) => !one.endsWith("by scripts"))) {
  describe.skipIf(!canRun(name))(`changes of the tree: ${name}`, { timeout: 60_000 }, () => {
    const box = treeBox(name);
    const exists = async (path: string) => typeof (await box.stat(path)) !== "string";

    test("make directories, with their parents or without", async () => {
      await box.inside("mkdir /tmp/d; cd /tmp/d; >file; mkdir there; ln -s there link; ln -s nowhere dangling");
      expect(await box.make("/tmp/d/new")).toMatchObject({
        name: "new",
        path: "/tmp/d/new",
        type: "directory",
        mode: "755",
      });
      expect(await box.make("/tmp/d/slash//")).toMatchObject({ name: "slash", path: "/tmp/d/slash" });
      for (const one of NAMES) expect(await box.make(`/tmp/d/${one}/${one}`, true), one).toMatchObject({ name: one });
      for (const one of NAMES) expect(await box.names(`/tmp/d/${one}`), one).toEqual([one]);
      expect(await box.make("/tmp/d/there", true)).toMatchObject({ type: "directory" });
      expect(await box.make("/tmp/d/link", true)).toMatchObject({ path: "/tmp/d/link", type: "directory" });
      expect(await box.make("/tmp/d/link/below")).toMatchObject({ type: "directory" });
      expect(await box.names("/tmp/d/there")).toEqual(["below"]);
      for (const [path, plain, parents] of [
        ["/", "file_exists", undefined],
        ["/tmp/d/there", "file_exists", undefined],
        ["/tmp/d/link", "file_exists", undefined],
        ["/tmp/d/file", "file_exists", "file_exists"],
        ["/tmp/d/dangling", "file_exists", "file_exists"],
        ["/tmp/d/none/x", "file_not_found", undefined],
        ["/tmp/d/file/x", "not_a_directory", "not_a_directory"],
        ["/tmp/d/file/x/y", "not_a_directory", "not_a_directory"],
        ["/proc/x", "permission_denied", "permission_denied"],
        ["relative", "invalid_request", "invalid_request"],
      ] as const) {
        expect(await box.make(path), path).toBe(plain);
        if (parents) expect(await box.make(path, true), path).toBe(parents);
      }
    });

    test("move files, links and directories to another name", async () => {
      await box.inside(`
        mkdir -p /tmp/m/dir/sub /tmp/m/empty /tmp/m/target; cd /tmp/m; echo 1 >one; echo 2 >two; echo 3 >three; ln -s target link
        ln -s target other; ln -s one file-link; echo 4 >target/kept; chmod 640 one; >dir/sub/f`);
      expect(await box.move("/tmp/m/one", "/tmp/m/a/b/one")).toBe("done");
      expect(await box.stat("/tmp/m/a/b/one")).toMatchObject({ mode: "640", size: 2 });
      expect(await box.move("/tmp/m/a/b/one", "/tmp/m/two")).toBe("done");
      expect(await box.inside("cat /tmp/m/two")).toBe("1\n");
      expect(await box.move("/tmp/m/link", "/tmp/m/moved-link")).toBe("done");
      expect(await box.stat("/tmp/m/moved-link")).toMatchObject({ type: "symlink", symlink_target: "target" });
      expect(await box.move("/tmp/m/file-link", "/tmp/m/two")).toBe("done");
      expect(await box.stat("/tmp/m/two")).toMatchObject({ type: "symlink", symlink_target: "one" });
      // A link is replaced, not followed.
      expect(await box.move("/tmp/m/three", "/tmp/m/other")).toBe("done");
      expect(await box.stat("/tmp/m/other")).toMatchObject({ type: "file" });
      expect(await box.names("/tmp/m/target")).toEqual(["kept"]);
      const inode = await box.inside("stat -c %i /tmp/m/dir");
      expect(await box.move("/tmp/m/dir", "/tmp/m/new/dir/")).toBe("done");
      expect(await box.inside("stat -c %i /tmp/m/new/dir"), "a rename, not a copy").toBe(inode);
      expect(await box.move("/tmp/m/new/dir", "/tmp/m/empty")).toBe("done");
      expect(await box.names("/tmp/m/empty", { depth: "5" })).toEqual(["sub", "sub/f"]);
      expect(await box.move("/tmp/m/empty", "/tmp/./m/empty")).toBe("done");
      expect(await box.move("/tmp/m/other", "/tmp/m/other")).toBe("done");
      expect(await box.names("/tmp/m")).toEqual(["a", "empty", "moved-link", "new", "other", "target", "two"]);
    });

    test("move what has any name", async () => {
      await box.inside("mkdir /tmp/mn");
      for (const one of NAMES) {
        await box.make(`/tmp/mn/${one}`);
        expect(await box.move(`/tmp/mn/${one}`, `/tmp/mn2/${one}/${one}`), one).toBe("done");
        expect(await box.names(`/tmp/mn2/${one}`), one).toEqual([one]);
      }
      expect(await box.names("/tmp/mn")).toEqual([]);
    });

    test("move nothing where it cannot be, and then change nothing", async () => {
      await box.inside(`
        mkdir -p /tmp/n/dir/sub /tmp/n/full/x /tmp/n/empty; cd /tmp/n; >file; >file2; ln -s dir link; ln -s dir/sub in`);
      const before = await box.list("/tmp/n", { depth: "9" });
      for (const [from, to, code] of [
        ["/tmp/n/none", "/tmp/n/new/x", "file_not_found"],
        ["/tmp/n/file/x", "/tmp/n/new/x", "not_a_directory"],
        ["/tmp/n/file/", "/tmp/n/new/x", "not_a_directory"],
        ["/tmp/n/file", "/tmp/n/new/", "not_a_directory"],
        ["/tmp/n/file", "/tmp/n/file2/x", "not_a_directory"],
        ["/tmp/n/file", "/tmp/n/dir", "is_a_directory"],
        ["/tmp/n/file", "/tmp/n/empty", "is_a_directory"],
        ["/tmp/n/link", "/tmp/n/empty", "is_a_directory"],
        ["/tmp/n/dir", "/tmp/n/full", "directory_not_empty"],
        ["/tmp/n/dir", "/tmp/n", "directory_not_empty"],
        ["/tmp/n/dir", "/tmp/n/file", "not_a_directory"],
        ["/tmp/n/dir", "/tmp/n/link", "not_a_directory"],
        ["/tmp/n/dir", "/tmp/n/dir/x", "invalid_request"],
        ["/tmp/n/dir", "/tmp/n/dir/new/x", "invalid_request"],
        ["/tmp/n/dir", "/tmp/n/in/x", "invalid_request"],
        ["/tmp/n/dir/.", "/tmp/n/x", "invalid_request"],
        ["/tmp/n/dir", "/tmp/n/x/..", "invalid_request"],
        ["/", "/tmp/n/x", "permission_denied"],
        ["/tmp/n/dir", "/", "permission_denied"],
        ["/proc", "/tmp/n/x", "permission_denied"],
        ["/tmp/n/dir", "/proc/x", "permission_denied"],
        ["/tmp/n/file", "/proc/x", "permission_denied"],
      ] as const) {
        expect(await box.move(from, to), `${from} to ${to}`).toBe(code);
      }
      expect(await box.list("/tmp/n", { depth: "9" })).toEqual(before);
    });

    test("move to another filesystem, and from a layer below", async () => {
      await box.inside(`
        mkdir -p /tmp/x/dir/sub /dev/shm/empty; cd /tmp/x; echo 1 >dir/sub/f; ln -s sub dir/l; chmod 750 dir; echo 2 >file
        ln -s /dev/shm/empty /dev/shm/link`);
      expect(await box.move("/tmp/x/dir", "/dev/shm/empty")).toBe("done");
      expect(await box.stat("/dev/shm/empty")).toMatchObject({ mode: "750" });
      expect(await box.names("/dev/shm/empty", { depth: "9" })).toEqual(["l", "sub", "sub/f"]);
      expect(await box.move("/tmp/x/file", "/dev/shm/link")).toBe("done");
      expect(await box.inside("cat /dev/shm/link /dev/shm/empty/sub/f")).toBe("2\n1\n");
      expect(await box.names("/tmp/x")).toEqual([]);
      expect(await box.names("/dev/shm")).toEqual(["empty", "link"]);
      if (name.startsWith("docker, seen")) {
        const before = await box.list("/etc/apt", { depth: "9" });
        expect(await box.move("/etc/apt", "/etc/moved")).toBe("done");
        expect(await box.move("/etc/moved", "/etc/apt")).toBe("done");
        expect(await box.list("/etc/apt", { depth: "9" })).toEqual(before);
      }
    });

    (name.startsWith("docker") ? test : undefined)?.("leave nothing half where there is no room", async () => {
      await box.inside(
        "mkdir -p /tmp/big/dir; cd /tmp/big; echo old >/dev/shm/old; head -c 80000000 /dev/zero >dir/f; echo 1 >dir/g",
      );
      expect(await box.move("/tmp/big/dir", "/dev/shm/dir")).toBe("disk_full");
      expect(await box.move("/tmp/big/dir/f", "/dev/shm/old")).toBe("disk_full");
      expect(await box.names("/dev/shm")).not.toContain("dir");
      expect(await box.inside("ls -A /dev/shm | grep -c sandbar; cat /dev/shm/old")).toBe("0\nold\n");
      expect(await box.stat("/tmp/big/dir/f")).toMatchObject({ size: 80_000_000 });
      expect(await box.names("/tmp/big/dir")).toEqual(["f", "g"]);
    });

    test("remove what is there, links themselves", async () => {
      await box.inside(`
        mkdir -p /tmp/r/dir/sub /tmp/r/empty /tmp/r/target; cd /tmp/r; >file; >dir/f; >target/kept; ln -s target link; ln -s no dangling
        ln -s ../../target dir/sub/way; mkfifo fifo`);
      for (const [path, code, recursively] of [
        ["/tmp/r/none", "file_not_found", "file_not_found"],
        ["/tmp/r/file/x", "not_a_directory", "not_a_directory"],
        ["/tmp/r/file/", "not_a_directory", "not_a_directory"],
        ["/tmp/r/dir", "directory_not_empty", undefined],
        ["/tmp/r/dir/.", "invalid_request", "invalid_request"],
        ["/tmp/r/dir/..", "invalid_request", "invalid_request"],
        ["/", "permission_denied", "permission_denied"],
        ["//", "permission_denied", "permission_denied"],
        ["/proc", "permission_denied", "permission_denied"],
        ["/dev", "permission_denied", "permission_denied"],
        ["/proc/self/status", "permission_denied", "permission_denied"],
      ] as const) {
        if (code !== "permission_denied" || path !== "/dev") expect(await box.remove(path), path).toBe(code);
        if (recursively) expect(await box.remove(path, true), path).toBe(recursively);
      }
      expect(await box.inside("ls /dev | grep -c null")).toBe("1\n");
      for (const path of ["/tmp/r/file", "/tmp/r/link/", "/tmp/r/dangling", "/tmp/r/empty/", "/tmp/r/fifo"])
        expect(await box.remove(path), path).toBe("done");
      expect(await box.remove("/tmp/r/dir", true)).toBe("done");
      expect(await box.names("/tmp/r", { depth: "9" })).toEqual(["target", "target/kept"]);
      for (const one of NAMES) {
        await box.make(`/tmp/r/${one}/${one}`, true);
        expect(await box.remove(`/tmp/r/${one}`, true), one).toBe("done");
        expect(await exists(`/tmp/r/${one}`), one).toBe(false);
      }
    });

    test("remove nothing of what holds a mount", async () => {
      const mount = (await box.inside("cat /proc/self/mountinfo")).split("\n").map((line) => line.split(" ")[4]!);
      const below = mount.find((point) => /^\/(dev|etc|\.sandbar)\/./.test(point))!;
      const top = `/${below.split("/")[1]!}`;
      const before = await box.list(top);
      expect(await box.remove(top, true), top).toBe("permission_denied");
      expect(await box.move(top, "/tmp/taken"), top).toBe("permission_denied");
      expect(await box.list(top)).toEqual(before);
    });

    test("remove many", async () => {
      await box.inside(
        "mkdir -p /tmp/many/a/b/c; cd /tmp/many; seq 5000 | xargs touch; cd a/b/c; seq 5000 | xargs touch",
      );
      expect(((await box.list("/tmp/many/a", { depth: "3", limit: "1" })) as { more: boolean }).more).toBe(true);
      expect(await box.remove("/tmp/many", true)).toBe("done");
      expect(await exists("/tmp/many")).toBe(false);
    });
  });
}
