import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DockerHost, IMAGE, makeEmptyImage, noEngine, removeImages } from "./docker-host.ts";
import { embeddedHost } from "./embedded-host.ts";
import { SignedHost, text, until } from "./signed-host.ts";

const EMPTY = "sandbar-test:archives";
const BUSYBOX = "/.sandbar/busybox";
const LONG = `${"l".repeat(90)}/${"m".repeat(120)}/${"n".repeat(200)}`;

describe.skipIf(noEngine).each(["docker", "docker without a tar", "embedded"])("archives, on %s", (kind) => {
  const local = mkdtempSync("/tmp/sandbar-archive-");
  const isEmpty = kind === "docker without a tar";
  let host: SignedHost;
  let close: () => Promise<unknown>;
  let box: string;

  beforeAll(async () => {
    if (kind === "embedded") {
      ({ host, close } = await embeddedHost());
      box = await host.sandbox();
      return;
    }
    const docker = await DockerHost.open();
    host = await SignedHost.start(docker.runtime, { dataDir: docker.dataDir });
    if (isEmpty) makeEmptyImage(EMPTY);
    close = async () => {
      await host.daemon.close({ stopContainers: true });
      await docker.close();
      if (isEmpty) removeImages(EMPTY);
    };
    box = await host.sandbox({ image: isEmpty ? EMPTY : IMAGE });
    if (isEmpty) await host.exec(box, [BUSYBOX, "sh", "-c", `${BUSYBOX} mkdir -p /tmp /etc`]);
  });
  afterAll(async () => {
    await close();
    rmSync(local, { recursive: true });
  });

  const at = (path: string, query = "") => `${box}/files/archive?${new URLSearchParams({ path })}${query}`;
  const get = (path: string) => host.call("GET", at(path));
  const put = (path: string, body: Buffer, query = "") => host.call("PUT", at(path, query), { body });
  /** A script on whichever tools there are. */
  const sh = async (script: string) => {
    const all = "mkdir rm ls cat stat ln chmod chown find seq touch readlink test sort mkfifo wc";
    const tools = isEmpty
      ? all
          .split(" ")
          .map((tool) => `${tool}() { ${BUSYBOX} ${tool} "$@"; };`)
          .join(" ")
      : "";
    const status = await host.exec(box, [...(isEmpty ? [BUSYBOX] : []), "sh", "-c", `${tools} ${script}`], {}, 60_000);
    expect(status.returncode, `${script}: ${text(status.output?.stderr)}`).toBe(0);
    return text(status.output?.stdout);
  };
  const listOf = (archive: Buffer) => {
    writeFileSync(`${local}/it.tar`, archive);
    return execFileSync("tar", ["-tvf", `${local}/it.tar`, "--numeric-owner"], {
      encoding: "utf8",
      env: { LC_ALL: "C", PATH: process.env.PATH },
    });
  };
  const pack = (...args: string[]) => execFileSync("tar", ["-C", local, "-cf", "-", ...args], { maxBuffer: 1e9 });
  const leftovers = () => sh("for f in /tmp/.sandbar-*; do [ -e $f ] && echo $f; done; :");

  test("come back as they went", async () => {
    await sh(`rm -rf /tmp/a; mkdir -p /tmp/a/empty '/tmp/a/${LONG}'; cd /tmp/a; echo 1 > plain; ln plain hard; ln -s plain soft
      ln -s /nowhere/${LONG} dangling; echo x > '${LONG}/file'; echo 2 > 'with space'; echo 3 > 'new
line'; echo 4 > -dash; echo 5 > "$(printf '\\303\\274')"; echo 6 > "$(printf 'bad\\377')"; echo 7 > run; chmod 4751 run; chmod 1777 empty
      echo 8 > owned; chown 1234:4321 owned; chmod 640 owned; touch -d '2001-02-03 04:05:06' plain`);
    const archive = await get("/tmp/a");
    expect([archive.status, archive.headers["content-type"]]).toEqual([200, "application/x-tar"]);
    const listed = listOf(archive.body);
    expect(listed).toMatch(/drwxrwxrwt 0\/0 .* \.\/empty\/\n/);
    expect(listed).toMatch(/1234\/4321 .* \.\/owned\n/);
    for (const line of listed.trim().split("\n")) expect(line).toContain(" ./");
    expect((await put("/tmp/deep/b", archive.body)).status).toBe(204);
    const shown = (dir: string) =>
      sh(
        `cd ${dir}; find . -exec stat -c '%n %a %u %g %F' {} + 2>/dev/null | sort; readlink soft dangling; cat plain -- -dash bad* '${LONG}/file'; stat -c '%i' plain hard | sort | wc -l; stat -c %Y plain; [ plain -ef hard ]`,
      );
    if (isEmpty) {
      // Without processes that find could start.
      const all = (dir: string) =>
        sh(
          `cd ${dir}; for f in * */* */*/* */*/*/*; do stat -c '%n %a %u %g %F' "$f" 2>/dev/null; done; readlink soft; readlink dangling; stat -c %Y plain; cat plain`,
        );
      expect(await all("/tmp/deep/b")).toBe(await all("/tmp/a"));
    } else {
      expect(await shown("/tmp/deep/b")).toBe(await shown("/tmp/a"));
    }
    expect(await leftovers()).toBe("");
  });
  test("of one file hold it by its name", async () => {
    await sh("cd /tmp; echo content > -odd; ln -s /tmp/-odd link-to-it");
    expect(listOf((await get("/tmp/-odd")).body)).toMatch(/^-.* 8 .* -odd\n$/);
    expect(listOf((await get("/tmp/link-to-it")).body)).toMatch(/^-.* 8 .* link-to-it\n$/);
  });
  test("of what is not there, and into what is no directory, say so", async () => {
    await sh("echo > /tmp/file; ln -s /nowhere /tmp/nowhere");
    const code = async (path: string) => (await get(path)).json.code;
    expect(await code("/tmp/none")).toBe("file_not_found");
    expect(await code("/tmp/nowhere")).toBe("file_not_found");
    expect(await code("/tmp/file/x")).toBe("not_a_directory");
    expect(await code("relative")).toBe("invalid_request");
    writeFileSync(`${local}/f`, "f");
    expect((await put("/tmp/file", pack("f"))).json.code).toBe("not_a_directory");
    expect((await put("/tmp/file/x", pack("f"))).json.code).toBe("not_a_directory");
    expect(await leftovers()).toBe("");
  });
  test("that are none change nothing", async () => {
    writeFileSync(`${local}/f`, Buffer.alloc(100_000, 1));
    const whole = pack("f");
    const gzip = execFileSync("gzip", ["-c"], { input: whole });
    for (const body of [
      Buffer.alloc(0),
      Buffer.from("no tar"),
      Buffer.alloc(5000, 7),
      gzip,
      whole.subarray(0, 50_000),
      whole.subarray(0, 100_864),
    ]) {
      const answer = await put("/tmp/untouched/x", body);
      expect([answer.status, answer.json.code]).toEqual([400, "invalid_request"]);
    }
    expect((await put("/tmp/untouched/x", whole, `&size=${whole.length - 1}`)).json.code).toBe("invalid_request");
    async function* broken() {
      yield whole.subarray(0, 50_000);
      await new Promise((wake) => setTimeout(wake, 50));
      throw new Error("cut");
    }
    await expect(host.call("PUT", at("/tmp/untouched/x"), { body: broken() })).rejects.toThrow();
    await sh("test ! -e /tmp/untouched");
    await until(async () => (await leftovers()) === "");
    expect((await put("/tmp/touched", whole, `&size=${whole.length}`)).status).toBe(204);
  });
  test("that lead out of the directory are refused", async () => {
    writeFileSync(`${local}/f`, "f");
    for (const name of ["../out", "a/../../out", "/tmp/out", ".."]) {
      const answer = await put("/tmp/within", pack("-P", `--transform=s|^f$|${name}|`, "f"));
      expect([answer.status, answer.json.code], name).toEqual([400, "invalid_request"]);
    }
    const long = pack("-P", `--transform=s|^f$|${"d/".repeat(80)}${"../".repeat(90)}out|`, "f");
    expect((await put("/tmp/within", long)).json.code).toBe("invalid_request");
    const pax = pack("-P", "--format=posix", `--transform=s|^f$|${"d/".repeat(80)}${"../".repeat(90)}out|`, "f");
    expect((await put("/tmp/within", pax)).json.code).toBe("invalid_request");
    await sh("test ! -e /tmp/within; test ! -e /tmp/out");
  });
  (isEmpty ? undefined : test)?.("that are cut are not taken for whole", async () => {
    await sh("mkdir -p /tmp/big; cd /tmp/big; for i in 1 2 3 4 5 6 7 8; do head -c 8000000 /dev/zero > $i; done");
    const response = await host.open("GET", at("/tmp/big"));
    await new Promise((wake) => response.once("readable", wake));
    await sh("for p in /proc/[0-9]*; do case $(cat $p/comm) in tar) kill -9 ${p#/proc/};; esac; done");
    await expect(async () => {
      for await (const part of response) void part;
    }).rejects.toThrow();
    await until(async () => (await host.call("GET", box)).json.busy === false);
  });
  (kind === "embedded" ? undefined : test)?.("that there is no room for say so", async () => {
    const dir = "/dev/shm/full";
    writeFileSync(`${local}/large`, Buffer.alloc(70 * 1024 * 1024, 1));
    const answer = await put(dir, pack("large"));
    expect([answer.status, answer.json.code]).toEqual([507, "disk_full"]);
    await sh(`rm -r ${dir}`);
    expect(await leftovers()).toBe("");
  });
  test("of many small files hold all of them", async () => {
    const docker = kind === "docker" ? `sandbar-${box.split("/").at(-1)}-1` : undefined;
    await sh(
      `rm -rf /tmp/many; mkdir /tmp/many; cd /tmp/many; i=0; while [ $i -lt 1000 ]; do echo $i > $i; i=$((i+1)); done`,
    );
    const timed = async (work: () => unknown) => {
      const times: number[] = [];
      for (let i = 0; i < 3; i++) {
        const begin = performance.now();
        await work();
        times.push(performance.now() - begin);
      }
      return Math.round(Math.min(...times));
    };
    let archive!: Buffer;
    const out = await timed(async () => (archive = (await get("/tmp/many")).body));
    const into = await timed(() => put("/tmp/copied", archive));
    expect(listOf(archive).split("\n").length).toBe(1002);
    expect((await sh("cd /tmp/copied; cat 0 999; ls | wc -l")).trim().split(/\s+/)).toEqual(["0", "999", "1000"]);
    if (!docker) return console.log(`${kind}: 1,000 small files out ${out} ms, in ${into} ms`);
    const cp = (...args: string[]) => execFileSync("docker", ["cp", ...args], { stdio: "pipe" });
    const cpOut = await timed(() => cp(`${docker}:/tmp/many`, `${local}/many-${Math.random()}`));
    const some = `${local}/many`;
    cp(`${docker}:/tmp/many`, some);
    const cpIn = await timed(() => cp(some, `${docker}:/tmp/many2`));
    console.log(`${kind}: 1,000 small files out ${out} ms (docker cp: ${cpOut}), in ${into} ms (docker cp: ${cpIn})`);
    expect(readFileSync(`${some}/7`, "utf8")).toBe("7\n");
  });
});
