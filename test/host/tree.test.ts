import { describe, expect, test } from "vitest";
import type { FileInfo, FileList } from "../../src/contract/file.ts";
import { BOXES, canRun, nobodysBox, treeBox, type BoxName } from "./tree-boxes.ts";
import { noEngine } from "./docker-host.ts";

const NAMES = [
  "plain",
  "with space",
  "new\nline",
  "ends\n",
  "-dash",
  "it's",
  'quo"te',
  "$(id)",
  "a -> b",
  "ü",
  "'",
  ".x",
];
const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

for (const name of Object.keys(BOXES) as BoxName[]) {
  describe.skipIf(!canRun(name))(`the tree of ${name}`, { timeout: 60_000 }, () => {
    const box = treeBox(name);

    test("is told as `stat` tells it inside", async () => {
      await box.inside(`
        mkdir -p /tmp/s/dir; cd /tmp/s; printf 12345 >file; chmod 4751 file; chmod 1777 dir; chmod 2640 . ; mkfifo fifo
        printf x >tight; chmod 7000 tight; ln -s file link; printf x >owned; chown 4242:4243 owned; touch -d '1999-12-31 23:59:58' dir`);
      const paths = [
        "/tmp/s",
        ...["dir", "file", "fifo", "tight", "link", "owned"].map((one) => `/tmp/s/${one}`),
        "/",
        "/dev/null",
      ];
      for (const path of paths) {
        const said = await box.inside(`stat -c '%s|%a|%A|%U|%G|%u|%g|%Y' ${path}; stat -c %y ${path}`);
        const [head, date] = said.split("\n") as [string, string];
        const [size, mode, permissions, owner, group, uid, gid, seconds] = head.split("|");
        const info = (await box.stat(path)) as FileInfo;
        expect(info, path).toMatchObject({
          path,
          name: path.slice(path.lastIndexOf("/") + 1) || "/",
          size: Number(size),
          mode,
          permissions,
          owner: owner === "UNKNOWN" ? uid : owner,
          group: group === "UNKNOWN" ? gid : group,
        });
        expect(Math.floor(Date.parse(info.modified_at) / 1000), path).toBe(Number(seconds));
        expect(info.modified_at, path).toContain(`.${/\.(\d{9})/.exec(date)![1]}Z`);
      }
      const types = await Promise.all(paths.map(async (path) => ((await box.stat(path)) as FileInfo).type));
      expect(types).toEqual([
        "directory",
        "directory",
        "file",
        "other",
        "file",
        "symlink",
        "file",
        "directory",
        "other",
      ]);
      expect(await box.stat("/tmp/s/link")).toMatchObject({ symlink_target: "file", size: 4 });
      expect(await box.stat("/tmp/s/file")).not.toHaveProperty("symlink_target");
    });

    test("is looked at without a process where it can be seen", async () => {
      await box.inside(
        "mkdir -p /tmp/seen/way /etc; cd /tmp/seen; >file; ln -s / way/root; touch -a /etc/passwd /etc/group",
      );
      const before = box.spawned;
      await box.stat("/tmp/seen/file");
      await box.stat("/tmp/seen/way/root/dev/null");
      await box.list("/tmp/seen");
      expect(box.spawned - before > 0).toBe(!BOXES[name].isSeen);
    });

    test("may have any name", async () => {
      await box.inside(`mkdir /tmp/odd; cd /tmp/odd; printf x >"$(printf 'l\\374x')"; true`);
      for (const one of NAMES) await box.inside(`cd /tmp/odd; ln -s ${quoted(`to ${one}`)} ./${quoted(one)}; true`);
      for (const one of NAMES) {
        const info = await box.stat(`/tmp/odd/${one}`);
        expect(info, one).toMatchObject({ name: one, type: "symlink", symlink_target: `to ${one}` });
      }
      const list = (await box.list("/tmp/odd/")) as FileList;
      expect(list.data.map((info) => info.path)).toEqual(
        [...NAMES, "l\ufffdx"].map((one) => `/tmp/odd/${one}`).toSorted(byUnits),
      );
      for (const { name: one, type, symlink_target } of list.data)
        if (type === "symlink") expect(symlink_target).toBe(`to ${one}`);
    });

    test("is listed by levels and in pages", async () => {
      await box.inside(
        "mkdir -p /tmp/l/b/c/d /tmp/l/a /tmp/l/e; cd /tmp/l; >b/c/d/f; >b-; ln -s b/c way; ln -s / e/root",
      );
      expect(await box.names("/tmp/l")).toEqual(["a", "b", "b-", "e", "way"]);
      expect(await box.names("/tmp/l", { depth: "2" })).toEqual(["a", "b", "b-", "b/c", "e", "e/root", "way"]);
      expect(await box.names("/tmp/l", { depth: "100" })).toContain("b/c/d/f");
      expect(await box.names("/tmp/l/way")).toEqual(["d"]);
      expect(await box.names("/tmp/l/way", { depth: "9" })).toEqual(["d", "d/f"]);
      expect(await box.list("/tmp/l/a")).toEqual({ data: [], more: false });
      expect(await box.list("/tmp/l/a", { depth: "3" })).toEqual({ data: [], more: false });
      for (const depth of ["1", "3"]) {
        const all = (await box.list("/tmp/l", { depth })) as FileList;
        const seen: FileInfo[] = [];
        for (let more = true; more;) {
          const after: { after?: string } = seen.length > 0 ? { after: seen.at(-1)!.path } : {};
          const page = (await box.list("/tmp/l", { depth, limit: "2", ...after })) as FileList;
          expect(page.data.length).toBeLessThanOrEqual(2);
          seen.push(...page.data);
          more = page.more;
        }
        expect(seen).toEqual(all.data);
      }
      const root = (await box.list("/")) as FileList;
      expect(root.data.map((info) => info.path)).toContain("/tmp");
      expect(root.data.find((info) => info.path === "/proc")).toMatchObject({ type: "directory", mode: "555" });
      expect(await box.names("/proc/self")).toContain("status");
    });

    test("may be wide", async () => {
      await box.inside("mkdir -p /tmp/wide/sub; cd /tmp/wide; seq 5000 | xargs touch");
      for (const depth of ["1", "2"]) {
        const list = (await box.list("/tmp/wide", { depth, limit: "10000" })) as FileList;
        expect([list.data.length, list.more]).toEqual([5001, false]);
        const some = (await box.list("/tmp/wide", { depth, limit: "100", after: "/tmp/wide/4" })) as FileList;
        expect(some.data).toEqual(list.data.filter((info) => info.path > "/tmp/wide/4").slice(0, 100));
        expect(some.more).toBe(true);
      }
      expect(await box.remove("/tmp/wide")).toBe("directory_not_empty");
      expect(await box.remove("/tmp/wide", true)).toBe("done");
      expect(await box.stat("/tmp/wide")).toBe("file_not_found");
    });

    test("says why something cannot be looked at", async () => {
      await box.inside("mkdir /tmp/w; cd /tmp/w; >file; ln -s nowhere dangling; ln -s loop loop");
      for (const [path, stat, list] of [
        ["/tmp/w/none", "file_not_found", "file_not_found"],
        ["/tmp/w/none/none", "file_not_found", "file_not_found"],
        ["/tmp/w/file/none", "not_a_directory", "not_a_directory"],
        ["/tmp/w/file/", "not_a_directory", "not_a_directory"],
        ["/tmp/w/file", undefined, "not_a_directory"],
        ["/tmp/w/dangling", undefined, "file_not_found"],
        ["/tmp/w/loop/x", "file_not_found", "file_not_found"],
        [`/tmp/${"x".repeat(300)}`, "file_not_found", "file_not_found"],
        ["relative", "invalid_request", "invalid_request"],
      ] as const) {
        if (stat) expect(await box.stat(path), path).toBe(stat);
        expect(await box.list(path), path).toBe(list);
      }
      expect(await box.list("/tmp", { depth: "0" })).toBe("invalid_request");
    });
  });
}

describe.skipIf(noEngine !== undefined)("the tree as nobody sees it", () => {
  const box = nobodysBox();

  test("permits what the sandbox's user may, and no more", async () => {
    await box.inside("mkdir -p /tmp/p/shut/in; >/tmp/p/file; chmod 0 /tmp/p/shut");
    expect(await box.stat("/tmp/p/file")).toMatchObject({ owner: "nobody", group: "nogroup", mode: "644" });
    expect(await box.stat("/tmp/p/shut")).toMatchObject({ mode: "0" });
    for (const path of ["/tmp/p/shut/in", "/root/x"]) expect(await box.stat(path), path).toBe("permission_denied");
    for (const path of ["/tmp/p/shut", "/root"]) expect(await box.list(path), path).toBe("permission_denied");
    for (const path of ["/tmp/p/shut/new", "/new", "/etc/new"]) {
      expect(await box.make(path), path).toBe("permission_denied");
      expect(await box.make(`${path}/er`, true), path).toBe("permission_denied");
      expect(await box.move("/tmp/p/file", path), path).toBe("permission_denied");
    }
    for (const path of ["/etc/passwd", "/tmp/p/shut/in", "/etc", "/home"]) {
      expect(await box.move(path, "/tmp/p/moved"), path).toBe("permission_denied");
      expect(await box.remove(path, true), path).toBe("permission_denied");
    }
    expect(await box.names("/tmp/p")).toEqual(["file", "shut"]);
  });
});

function byUnits(a: string, b: string): number {
  return a < b ? -1 : 1;
}
