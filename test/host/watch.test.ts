import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { DockerHost, IMAGE, noEngine } from "./docker-host.ts";
import { embeddedHost } from "./embedded-host.ts";
import { SignedHost, until } from "./signed-host.ts";
import { WatchedEvents } from "./watched-events.ts";

const descriptors = () => readdirSync("/proc/self/fd").length;

describe.skipIf(noEngine).each(["docker", "embedded"])("what happens to files, on %s", (kind) => {
  let host: SignedHost;
  let close: () => Promise<unknown>;
  let image: string;
  let box: string;
  let count = 0;
  let dir: string;
  const open: WatchedEvents[] = [];

  beforeAll(async () => {
    if (kind === "docker") {
      const docker = await DockerHost.open();
      host = await SignedHost.start(docker.runtime, { dataDir: docker.dataDir });
      close = async () => {
        await host.daemon.close({ stopContainers: true });
        await docker.close();
      };
      image = IMAGE;
    } else {
      ({ host, close } = await embeddedHost());
      image = "host";
    }
    box = await host.sandbox({ image });
  });
  afterAll(() => close());
  afterEach(() => open.splice(0).forEach((watched) => watched.close()));

  const sh = async (script: string) => {
    const status = await host.exec(box, ["sh", "-c", `set -e; cd ${dir}; ${script}`], {}, 60_000);
    expect(status.returncode, script).toBe(0);
  };
  const fresh = async (script = "") => {
    dir = `/tmp/w${++count}`;
    await host.exec(box, ["mkdir", "-p", dir]);
    await sh(script || ":");
  };
  const watch = async (path = dir, recursive = true, of = box) => {
    const watched = await WatchedEvents.open(host, of, path, recursive);
    open.push(watched);
    return watched;
  };

  test("is told, each by its kind and its paths", async () => {
    await fresh("echo 1 > old; mkdir sub");
    const watched = await watch();
    await sh("echo 1 > new; echo 2 >> old; chmod 600 sub; mv new newer; mkdir sub2; rm old; rmdir sub");
    // What is moved to where nobody watches yet is not told of as a rename.
    await watched.has(`create ${dir}/sub2`, `remove ${dir}/sub`);
    await sh("mv newer sub2/in");
    await watched.has(`rename ${dir}/newer ${dir}/sub2/in`);
    const [told, d] = [watched.told.filter((event) => !event.startsWith("modify")), dir];
    expect(told).toEqual([
      `create ${d}/new`,
      `rename ${d}/new ${d}/newer`,
      `create ${d}/sub2`,
      `remove ${d}/old`,
      `remove ${d}/sub`,
      `rename ${d}/newer ${d}/sub2/in`,
    ]);
    expect(watched.told).toContain(`modify ${d}/new`);
    await sh("echo x >> sub2/in; chmod 644 sub2/in");
    await watched.has(`modify ${d}/sub2/in`);
    expect(watched.seen[0]).toEqual({ event: "ready", path: dir });
  });
  test("is told as one where many writes follow each other", async () => {
    await fresh("echo > file");
    const watched = await watch();
    await sh("for i in 1 2 3 4 5 6 7 8 9; do echo $i >> file; done; echo > end");
    await watched.has(`create ${dir}/end`, `modify ${dir}/end`);
    expect(watched.told.filter((event) => event === `modify ${dir}/file`).length).toBeLessThanOrEqual(2);
    expect(watched.told).toContain(`modify ${dir}/file`);
  });
  test("is told of the directory alone unless it is asked for what is below", async () => {
    await fresh("mkdir sub");
    const watched = await watch(dir, false);
    await sh("echo > sub/deep; mkdir sub2; echo > sub2/deep; echo > last");
    await watched.has(`create ${dir}/last`);
    expect(watched.told.join()).not.toContain("deep");
    expect(watched.told).toContain(`create ${dir}/sub2`);
  });
  test("is told across directories, into what is watched and out of it", async () => {
    await fresh("mkdir -p in/a in/b out/tree/x; echo > in/a/f; echo > out/f; echo > out/tree/x/f");
    const [watched, d] = [await watch(`${dir}/in`), dir];
    await sh(
      "mv in/a/f in/b/g; mv out/f in/a/h; mv in/b/g out/g; mv out/tree in/tree; mv in/a out/a; echo > out/a/unseen",
    );
    await watched.has(`remove ${d}/in/a`);
    await sh("mv in/tree in/b/tree; echo > in/b/tree/x/new; mv in/b in/c; echo > in/c/tree/x/newest; echo > in/last");
    await watched.has(`create ${d}/in/last`);
    expect(watched.told.filter((event) => !event.startsWith("modify"))).toEqual([
      `rename ${d}/in/a/f ${d}/in/b/g`,
      `create ${d}/in/a/h`,
      `remove ${d}/in/b/g`,
      `create ${d}/in/tree`,
      `create ${d}/in/tree/x`,
      `create ${d}/in/tree/x/f`,
      `remove ${d}/in/a`,
      `rename ${d}/in/tree ${d}/in/b/tree`,
      `create ${d}/in/b/tree/x/new`,
      `rename ${d}/in/b ${d}/in/c`,
      `create ${d}/in/c/tree/x/newest`,
      `create ${d}/in/last`,
    ]);
    expect(watched.told.join()).not.toContain("unseen");
  });
  test("is told in whatever is new, and once", async () => {
    await fresh();
    const watched = await watch();
    await sh(`for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      mkdir -p d$i/e/f; echo > d$i/a; echo > d$i/e/b; echo > d$i/e/f/c; done; echo > last`);
    await watched.has(`create ${dir}/last`);
    const created = watched.told.filter((event) => event.startsWith("create"));
    const expected = Array.from({ length: 20 }, (_, i) => i + 1).flatMap((i) =>
      ["", "/a", "/e", "/e/b", "/e/f", "/e/f/c"].map((below) => `create ${dir}/d${i}${below}`),
    );
    expect(created.toSorted()).toEqual([...expected, `create ${dir}/last`].toSorted());
    await sh("for i in 1 2 3; do rm -r d$i; done; rm last");
    await watched.has(`remove ${dir}/last`);
    expect(watched.told).toEqual(
      expect.arrayContaining([`remove ${dir}/d1/e/f/c`, `remove ${dir}/d1/e/f`, `remove ${dir}/d3`]),
    );
  });
  test("is told of 2,000 files that come at once, under any names", async () => {
    await fresh();
    const watched = await watch();
    await sh(`i=0; while [ $i -lt 2000 ]; do : > "f$i"; i=$((i+1)); done; : > 'with
break'; : > "$(printf 'bad\\377')"; : > last`);
    await watched.has(`create ${dir}/last`);
    expect(watched.told).toContain(`create ${dir}/with\nbreak`);
    expect(watched.told).toContain(`create ${dir}/bad\ufffd`);
    expect(new Set(watched.told.filter((event) => event.startsWith("create"))).size).toBe(2003);
  });
  test("is told of a file, also one that another takes the place of", async () => {
    await fresh("echo 1 > file; ln -s file link");
    const [watched, linked, d] = [await watch(`${dir}/file`), await watch(`${dir}/link`), dir];
    await sh("echo 2 >> file; echo > other");
    await watched.has(`modify ${d}/file`);
    await linked.has(`modify ${d}/link`);
    const before = watched.told.length;
    await sh("echo 3 > new; mv new file");
    await until(() => watched.told.length > before);
    await sh("mv file backup; echo 4 > file; rm backup");
    await until(() => watched.told.length > before + 1);
    expect(new Set(watched.told)).toEqual(new Set([`modify ${d}/file`]));
    await sh("rm file");
    await until(() => watched.isEnded);
    expect(watched.told.at(-1)).toBe(`remove ${d}/file`);
  });
  test("is told by the path that was asked for", async () => {
    await fresh("mkdir -p real/sub; ln -s real link");
    const watched = await watch(`${dir}/real/../link/`);
    await sh("echo > real/sub/f");
    await watched.has(`create ${dir}/real/../link/sub/f`);
  });
  test("ends with what is watched", async () => {
    for (const end of ["rm -r top", "mv top elsewhere", "cd top; rm -r ../top; sleep 1", "mv top e; mkdir top"]) {
      await fresh("mkdir top");
      const watched = await watch(`${dir}/top`);
      await sh(end);
      await until(() => watched.isEnded);
      expect(watched.told.at(-1), end).toBe(`remove ${dir}/top`);
    }
  });
  test("cannot be told of what is not there", async () => {
    await fresh("echo > file; ln -s /nowhere dangling");
    const code = async (path: string) =>
      (await host.call("GET", `${box}/files/watch?${new URLSearchParams({ path })}`)).json.code;
    expect(await code(`${dir}/none`)).toBe("file_not_found");
    expect(await code(`${dir}/dangling`)).toBe("file_not_found");
    expect(await code(`${dir}/file/x`)).toBe("not_a_directory");
    expect(await code("relative")).toBe("invalid_request");
  });
  test("goes on where more happened than could be told", async () => {
    // So much that no buffer on the way holds it: those of a connection grow to some 10 MB.
    const [a, name] = ["a".repeat(200), "n".repeat(200)];
    await fresh(`mkdir ${a}`);
    const watched = await watch();
    watched.response.pause();
    await sh(`cd ${a}; i=0; while [ $i -lt 30000 ]; do : > ${name}$i; i=$((i+1)); done; cd ..; rm -r ${a}`);
    watched.response.resume();
    await watched.has("overflow");
    await sh("mkdir c; echo > c/after");
    await watched.has(`create ${dir}/c/after`);
  });
  test("is told without end to whoever stays, and counts as use", async () => {
    const before = descriptors();
    await fresh();
    const watched = [await watch(), await watch(), await watch("/tmp")];
    await until(async () => (await host.call("GET", box)).json.busy === true);
    watched.forEach((one) => one.close());
    await until(async () => (await host.call("GET", box)).json.busy === false);
    await until(() => descriptors() <= before);
  });
  test("is too much to be told of beyond a limit", async () => {
    await fresh();
    const watched = await Promise.all(Array.from({ length: 32 }, () => watch(dir, false)));
    const refused = await host.call("GET", `${box}/files/watch?path=${dir}`);
    expect([refused.status, refused.json.code]).toEqual([503, "at_capacity"]);
    watched[0]!.close();
    await until(async () => {
      const again = await host.open("GET", `${box}/files/watch?path=${dir}`);
      again.destroy();
      return again.statusCode === 200;
    });
  });
  test("ends with the sandbox", async () => {
    const other = await host.sandbox({ image });
    const before = descriptors();
    const watched = await watch("/tmp", true, other);
    expect((await host.call("DELETE", other)).status).toBe(204);
    await until(() => watched.isEnded);
    await until(() => descriptors() <= before);
  });
  test("is never what happens to the host's own files", async () => {
    const bait = "/tmp/sandbar-watch-bait";
    await fresh("mkdir -p real/tmp top; ln -s / link; mkdir swap");
    const attacker = host.exec(
      box,
      [
        "sh",
        "-c",
        `cd ${dir}; for i in $(seq 50); do mv swap away; mv link swap; mv swap link; mv away swap; mkdir top/$i; rmdir top/$i; ln -s / top/$i; done`,
      ],
      {},
      60_000,
    );
    const told: string[] = [];
    let isOver = false;
    void attacker.then(() => (isOver = true));
    for (let i = 0; !isOver; i++) {
      writeFileSync(`${bait}-${i % 3}`, String(i));
      for (const path of [`${dir}/top`, `${dir}/swap`, dir]) {
        const watched = await WatchedEvents.open(host, box, path).catch(() => undefined);
        writeFileSync(`${bait}-${i % 3}`, String(i));
        await new Promise((wake) => setTimeout(wake, 20));
        told.push(...(watched?.told ?? []));
        watched?.close();
      }
    }
    for (const i of [0, 1, 2]) rmSync(`${bait}-${i}`, { force: true });
    expect(told.length).toBeGreaterThan(0);
    expect(told.filter((event) => event.includes("bait"))).toEqual([]);
  });
});
