import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { hasUserXattrs, packLayer, Unpackable } from "../../../src/host/layers/pack.ts";
import { unpackLayer } from "../../../src/host/layers/unpack.ts";
import { setXattr } from "../../../src/host/linux/xattr.ts";
import { Random } from "./random.ts";
import { describeTree, differences, makeTree } from "./tree.ts";

const isRoot = process.getuid?.() === 0;
const marks = isRoot ? "trusted" : "user";
const isGnuTar = (() => {
  try {
    return execFileSync("tar", ["--version"]).toString().includes("GNU tar");
  } catch {
    return false;
  }
})();
const directory = mkdtempSync("/tmp/sandbar-pack-");
const upper = `${directory}/upper`;
const setAttribute = (path: string, name: string, value = "x") => setXattr(Buffer.from(path), name, Buffer.from(value));
const pack = (sparse = true, trees = [{ directory: upper, prefix: "" }]) => buffer(packLayer(trees, { sparse }));
const names = (layer: Buffer) => execFileSync("tar", ["-t"], { input: layer }).toString().trim().split("\n");

beforeEach(() => {
  rmSync(upper, { recursive: true, force: true });
  mkdirSync(upper, { mode: 0o755 });
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe("no layer is made of", () => {
  async function expectRefused(reason: RegExp): Promise<void> {
    const error = await pack().catch((error: unknown) => error);
    expect(error).toBeInstanceOf(Unpackable);
    expect((error as Error).message).toMatch(reason);
  }

  const markTest = test.runIf(isRoot || marks === "user");
  markTest.for(["redirect", "metacopy"])("what an overlay keeps elsewhere: %s", async (kind) => {
    mkdirSync(`${upper}/d`);
    setAttribute(`${upper}/d`, `${marks}.overlay.${kind}`);
    await expectRefused(new RegExp(`"d": it is an overlay's ${kind}`));
  });

  test("a directory that is opaque in an unknown way", async () => {
    mkdirSync(`${upper}/d`);
    setAttribute(`${upper}/d`, `${marks}.overlay.opaque`, "x");
    await expectRefused(/in an unknown way/);
  });

  test("a name that would delete something", async () => {
    mkdirSync(`${upper}/d`);
    writeFileSync(`${upper}/d/.wh.precious`, "");
    await expectRefused(/"\.wh\.precious"/);
  });

  test("a path that is too long", async () => {
    const script = `for (let depth = 0; depth < 18; depth++) {
      require("fs").mkdirSync("d".repeat(250));
      process.chdir("d".repeat(250));
    }`;
    execFileSync(process.execPath, ["-e", script], { cwd: upper });
    await expectRefused(/File name too long/);
    execFileSync("rm", ["-rf", upper]);
  });

  test("a tree in another one's place", async () => {
    mkdirSync(`${upper}/usr`);
    const trees = [
      { directory: upper, prefix: "" },
      { directory: upper, prefix: "usr" },
    ];
    await expect(pack(true, trees)).rejects.toThrow("/usr is in two trees.");
  });
});

test("a layer that cannot be completed is no short one", async () => {
  writeFileSync(`${upper}/a`, Buffer.alloc(5_000_000));
  const trees = [
    { directory: upper, prefix: "" },
    { directory: `${directory}/nowhere`, prefix: "usr" },
  ];
  const error = await pack(true, trees).catch((error: unknown) => error);
  expect(error).not.toBeInstanceOf(Unpackable);
  expect(String(error)).toMatch(/ENOENT/);
});

test("who stops reading stops the work", async () => {
  writeFileSync(`${upper}/a`, Buffer.alloc(50_000_000));
  const stream = packLayer([{ directory: upper, prefix: "" }], { sparse: false });
  await once(stream, "readable");
  stream.destroy();
  await once(stream, "close");
});

test.runIf(isGnuTar)("sockets are left out, and only they; the root comes first", async () => {
  const server = createServer().listen(`${upper}/socket`);
  await once(server, "listening");
  mkdirSync(`${upper}/empty`);
  writeFileSync(`${upper}/file`, "");
  expect(names(await pack())).toEqual(["./", "empty/", "file"]);
  expect(names(await pack(true, [{ directory: upper, prefix: "usr" }]))).toEqual(["usr/", "usr/empty/", "usr/file"]);
  server.close();
});

test("without the format for them, holes are zeros", async () => {
  writeFileSync(`${upper}/holes`, "start");
  truncateSync(`${upper}/holes`, 3_000_000);
  expect((await pack(true)).length).toBeLessThan(20_000);
  const whole = await pack(false);
  expect(whole.length).toBeGreaterThan(3_000_000);
  expect(whole.includes("GNU.sparse")).toBe(false);
});

test("numbers that no plain header holds", async () => {
  writeFileSync(`${upper}/large`, "x");
  truncateSync(`${upper}/large`, 9_000_000_000);
  writeFileSync(`${upper}/attributes`, "");
  for (let index = 0; index < 9; index++) setAttribute(`${upper}/attributes`, `user.${index}`, "v".repeat(300));
  const layer = `${directory}/numbers`;
  await unpackLayer(Readable.from([await pack()]), layer, ["root"]);
  expect(differences(describeTree(upper), describeTree(`${layer}/root`))).toEqual([]);
});

test.runIf(isRoot && isGnuTar)("another tar reads the same out of it", async () => {
  makeTree(upper, new Random(5), 1500);
  for (const sparse of [true, false]) {
    if (!sparse)
      for (const [path] of [...describeTree(upper)].filter(([, text]) => text.includes("size=5000000000")))
        rmSync(Buffer.concat([Buffer.from(`${upper}/`), Buffer.from(path, "latin1")]));
    const other = `${directory}/other-${sparse}`;
    mkdirSync(other);
    const argv = [
      "-x",
      "-p",
      "--warning=no-timestamp",
      "--numeric-owner",
      "--xattrs",
      "--xattrs-include=*",
      "-C",
      other,
    ];
    execFileSync("tar", argv, { input: await pack(sparse), maxBuffer: 1 << 28 });
    // Without the map of holes: this tar makes some of its own.
    const plain = (tree: Map<string, string>) =>
      new Map([...tree].map(([path, text]) => [path, text.replace(/ data=.*/, "")]));
    expect(differences(plain(describeTree(upper)), plain(describeTree(other))).slice(0, 3)).toEqual([]);
  }
});

describe("attributes that Docker's commit loses", () => {
  test("none", async () => {
    mkdirSync(`${upper}/d`);
    writeFileSync(`${upper}/d/f`, "");
    chmodSync(`${upper}/d/f`, 0o4755);
    linkSync(`${upper}/d/f`, `${upper}/hard`);
    symlinkSync("d", `${upper}/soft`);
    setAttribute(`${upper}/d`, `${marks}.overlay.opaque`, "y");
    if (isRoot)
      execFileSync("sh", ["-c", 'command -v setcap >/dev/null && setcap cap_net_raw+ep "$0" || :', `${upper}/d/f`]);
    expect(await hasUserXattrs(upper)).toBe(false);
  });

  test("one, far down", async () => {
    mkdirSync(`${upper}/a/b/c`, { recursive: true });
    setAttribute(`${upper}/a/b/c`, "user.x");
    expect(await hasUserXattrs(upper)).toBe(true);
  });

  test("an access list", async () => {
    writeFileSync(`${upper}/f`, "");
    const entries = [
      [1, 6, -1],
      [2, 4, 0],
      [4, 4, -1],
      [16, 4, -1],
      [32, 0, -1],
    ];
    const value = Buffer.concat([
      Buffer.from([2, 0, 0, 0]),
      ...entries.map(([tag, bits, id]) => {
        const entry = Buffer.alloc(8);
        entry.writeUInt16LE(tag!, 0);
        entry.writeUInt16LE(bits!, 2);
        entry.writeInt32LE(id!, 4);
        return entry;
      }),
    ]);
    setXattr(Buffer.from(`${upper}/f`), "system.posix_acl_access", value);
    expect(await hasUserXattrs(upper)).toBe(true);
  });

  test("no directory to look at", async () => {
    expect(existsSync(`${directory}/nowhere`)).toBe(false);
    await expect(hasUserXattrs(`${directory}/nowhere`)).rejects.toThrow("ENOENT");
  });
});
