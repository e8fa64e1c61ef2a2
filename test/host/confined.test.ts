import {
  closeSync,
  constants,
  fstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openEmbeddedRuntime } from "../../src/host/embedded/runtime.ts";
import { FOLLOW, openBelow, openInRoot, O_PATH } from "../../src/host/linux/confined.ts";
import type { Container } from "../../src/host/runtime.ts";
import { DockerHost, noEngine, sh, spec } from "./docker-host.ts";

const SECRET = "/tmp/sandbar-confined-secret";
const dir = mkdtempSync("/tmp/sandbar-confined-");
const read = (fd: number) => {
  try {
    return readFileSync(fd, "utf8");
  } finally {
    closeSync(fd);
  }
};

beforeAll(() => writeFileSync(SECRET, "the host's"));
afterAll(() => {
  rmSync(SECRET);
  rmSync(dir, { recursive: true });
});

describe("below a root", () => {
  let root: number;
  beforeAll(() => {
    mkdirSync(`${dir}/a/b`, { recursive: true });
    mkdirSync(`${dir}/tmp`);
    writeFileSync(`${dir}${SECRET}`, "its own");
    symlinkSync(SECRET, `${dir}/a/absolute`);
    symlinkSync("../../../../../../../../..", `${dir}/a/b/up`);
    symlinkSync("loop", `${dir}/loop`);
    root = openSync(dir, O_PATH | constants.O_DIRECTORY);
  });
  afterAll(() => closeSync(root));

  test("links and `..` lead to what is there", () => {
    for (const path of [SECRET, "/a/absolute", `/a/b/up${SECRET}`, `/../../../..${SECRET}`, `a/b/../../..${SECRET}`]) {
      expect(read(openInRoot(root, path, constants.O_RDONLY)), path).toBe("its own");
    }
  });
  test("what cannot be opened says why", () => {
    const code = (path: string, flags = constants.O_RDONLY) => {
      try {
        closeSync(openInRoot(root, path, flags));
        return "opened";
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(code("/none")).toBe("file_not_found");
    expect(code("/none/none")).toBe("file_not_found");
    expect(code(`${SECRET}/none`)).toBe("not_a_directory");
    expect(code(SECRET, O_PATH | constants.O_DIRECTORY)).toBe("not_a_directory");
    expect(code("/loop")).toBe("file_not_found");
    expect(code("/a", constants.O_WRONLY)).toBe("is_a_directory");
  });
  test("links are not followed where they are not to be", () => {
    expect(() => openBelow(root, "a/b/up", O_PATH | constants.O_DIRECTORY, FOLLOW.noLinks)).toThrow("error 40");
    expect(() => openBelow(root, "../a", O_PATH, FOLLOW.noLinks)).toThrow("error 18");
    expect(() => openBelow(root, "/a", O_PATH, FOLLOW.noLinks)).toThrow("error 18");
  });
  test("who swaps the way for a link meanwhile wins nothing", async () => {
    mkdirSync(`${dir}/race/tmp`, { recursive: true });
    writeFileSync(`${dir}/race${SECRET}`, "its own");
    symlinkSync("/", `${dir}/race-link`);
    const swapper = new Worker(
      `const { renameSync } = require("node:fs");
       const { workerData: dir } = require("node:worker_threads");
       for (;;) {
         renameSync(dir + "/race", dir + "/away"); renameSync(dir + "/race-link", dir + "/race");
         renameSync(dir + "/race", dir + "/race-link"); renameSync(dir + "/away", dir + "/race");
       }`,
      { eval: true, workerData: dir },
    );
    const seen = new Set<string>();
    for (const end = Date.now() + 1_000; Date.now() < end;) {
      try {
        seen.add(read(openInRoot(root, `/race${SECRET}`, constants.O_RDONLY)));
      } catch (error) {
        seen.add((error as { code: string }).code);
      }
    }
    await swapper.terminate();
    expect(seen).toContain("its own");
    seen.delete("file_not_found");
    seen.delete("backend_unavailable");
    expect([...seen]).toEqual(["its own"]);
  });
});

describe.each(["docker", "embedded"])("the root of a container of %s", (kind) => {
  const dataDir = mkdtempSync("/tmp/sandbar-root-");
  let docker: DockerHost;
  let container: Container;
  beforeAll(async () => {
    docker = await DockerHost.open();
    if (kind === "docker") {
      if (!noEngine) container = await docker.start();
      return;
    }
    const runtime = await openEmbeddedRuntime({ dataDir });
    container = await runtime.start(spec({ image: runtime.defaultImage }));
  });
  afterAll(async () => {
    await container?.stop();
    await docker.close();
    rmSync(dataDir, { recursive: true, force: true });
  });

  test("is its own, and leads nowhere else", async (context) => {
    if (!container) return context.skip();
    await sh(container, `echo inside > /tmp/it; ln -s ${SECRET} /tmp/link; ln -s /tmp/it /tmp/own`);
    const root = container.openRoot!()!;
    try {
      expect(fstatSync(root).isDirectory()).toBe(true);
      expect(fstatSync(root).ino === statSync("/").ino && fstatSync(root).dev === statSync("/").dev).toBe(false);
      expect(read(openInRoot(root, "/tmp/it", constants.O_RDONLY))).toBe("inside\n");
      expect(read(openInRoot(root, "/tmp/own", constants.O_RDONLY))).toBe("inside\n");
      for (const path of [SECRET, "/tmp/link", `/../../..${SECRET}`, `/proc/self/root${SECRET}`]) {
        expect(() => openInRoot(root, path, constants.O_RDONLY), path).toThrow("There is no such file");
      }
    } finally {
      closeSync(root);
    }
  });
  test("is there no more once it has ended", async (context) => {
    if (!container) return context.skip();
    await container.stop();
    await expect(async () => container.openRoot!()).rejects.toMatchObject({ code: "sandbox_ended" });
  });
});
