import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { PassThrough, Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeEntry, padding, TYPES, type Entry } from "../../../src/host/layers/tar-header.ts";
import { BadLayer, unpackLayer } from "../../../src/host/layers/unpack.ts";
import { listXattrs } from "../../../src/host/linux/xattr.ts";
import { describeTree } from "./tree.ts";

const isRoot = process.getuid?.() === 0;
const marks = isRoot ? "trusted" : "user";
const directory = mkdtempSync("/tmp/sandbar-hostile-");
const outside = `${directory}/outside`;
let count = 0;
let before: Map<string, string>;

type Piece = Partial<Entry> & { name: string; body?: string | Buffer };
function tar(...pieces: (Piece | Buffer)[]): Buffer {
  const parts = pieces.map((piece) => {
    if (Buffer.isBuffer(piece)) return piece;
    const { body = "", ...rest } = piece;
    const bytes = Buffer.from(body);
    const type = rest.name.endsWith("/") ? TYPES.directory : TYPES.file;
    const entry = { type, mode: 0o755, uid: 0, gid: 0, size: bytes.length, mtimeNs: 1_000_000_000n, ...rest };
    return Buffer.concat([encodeEntry(entry), bytes, padding(bytes.length)]);
  });
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}
const symlink = (name: string, linkName: string): Piece => ({ name, linkName, type: TYPES.symlink });
const link = (name: string, linkName: string): Piece => ({ name, linkName, type: TYPES.link });
const records = (all: Record<string, string>) =>
  new Map(Object.entries(all).map(([key, value]) => [key, Buffer.from(value)]));

async function unpack(layer: Buffer): Promise<string> {
  const destination = `${directory}/layer-${count++}`;
  await unpackLayer(Readable.from([layer]), destination, ["root", "usr"]);
  return destination;
}

beforeAll(() => {
  mkdirSync(outside);
  writeFileSync(`${outside}/secret`, "the host's own");
  chmodSync(`${outside}/secret`, 0o600);
  before = describeTree(outside);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const big = "x".repeat(5000);
const REFUSED: Record<string, [layer: Buffer, reason: RegExp]> = {
  "a way up": [tar({ name: "../evil", body: "x" }), /leads upwards/],
  "a way up within": [tar({ name: "a/" }, { name: "a/../../evil", body: "x" }), /leads upwards/],
  "a way up at the end": [tar({ name: "a/" }, { name: "a/../" }), /leads upwards/],
  "an absolute name": [tar({ name: `${outside}/evil`, body: "x" }), /is absolute/],
  "a name of nothing": [tar({ name: "", records: records({ path: "" }) }), /is no name/],
  "a name with NUL": [tar({ name: "x", records: records({ path: "a\0b" }) }), /is no name/],
  "a file named as a directory": [tar({ name: "a/", type: TYPES.file, body: "x" }), /name of a directory/],
  "a name too long": [tar({ name: big }), /is too long/],
  "a component too long": [tar({ name: "x".repeat(256) }), /ENAMETOOLONG/],
  "a file through a link": [tar(symlink("l", outside), { name: "l/evil", body: "x" }), /below/],
  "a directory through a link": [tar(symlink("l", outside), { name: "l/evil/" }), /below/],
  "a directory over a link": [tar(symlink("l", outside), { name: "l/", mode: 0o777 }), /twice/],
  "a file over a link": [tar(symlink("l", `${outside}/secret`), { name: "l", body: "x" }), /twice/],
  "a link through a link": [tar(symlink("l", outside), link("h", "l/secret")), /below/],
  "a whiteout through a link": [tar(symlink("l", outside), { name: "l/.wh.secret" }), /below/],
  "an opaque link": [tar(symlink("l", outside), { name: "l/.wh..wh..opq" }), /below/],
  "a hard link to the host": [tar(link("h", `${outside}/secret`)), /is absolute/],
  "a hard link upwards": [tar({ name: "a/" }, link("a/h", "../outside/secret")), /leads upwards/],
  "a hard link to nothing": [tar(link("h", "etc/shadow")), /does not have/],
  "a hard link to a directory": [tar({ name: "a/" }, link("h", "a")), /what is no file/],
  "a hard link to a whiteout": [tar({ name: ".wh.x" }, link("h", "x")), /what is no file/],
  "a hard link to a mark": [tar({ name: ".wh.x" }, link("h", ".wh.x")), /is a mark/],
  "a hard link between trees": [tar({ name: "usr/x" }, link("h", "usr/x")), /another filesystem/],
  "a hard link to itself": [tar(link("h", "h")), /does not have/],
  "a hard link over a file": [tar({ name: "a" }, { name: "b" }, link("b", "a")), /twice/],
  "a disk": [tar({ name: "d", type: TYPES.block, device: { major: 8, minor: 0 } }), /is a device/],
  "a device": [tar({ name: "d", type: TYPES.character, device: { major: 1, minor: 1 } }), /is a device/],
  "a whiteout by hand": [tar({ name: "d", type: TYPES.character, device: { major: 0, minor: 0 } }), /is a device/],
  "a whiteout of nothing": [tar({ name: ".wh." }), /deletes nothing/],
  "a whiteout of the directory": [tar({ name: "a/" }, { name: "a/.wh.." }), /deletes nothing/],
  "a whiteout of its parent": [tar({ name: "a/" }, { name: "a/.wh..." }), /deletes nothing/],
  "a whiteout of a whiteout": [tar({ name: ".wh..wh.x" }), /deletes nothing/],
  "a whiteout that is a link": [tar(symlink(".wh.x", outside)), /no empty file/],
  "a whiteout that is a directory": [tar({ name: ".wh.x/" }), /name of a mark/],
  "a whiteout with something in it": [tar({ name: ".wh.x", body: "x" }), /no empty file/],
  "below a whiteout": [tar({ name: ".wh.x" }, { name: ".wh.x/y" }), /below a mark/],
  "below what is deleted": [tar({ name: ".wh.x" }, { name: "x/y" }), /below what is no directory/],
  "a whiteout of what is there": [tar({ name: "x" }, { name: ".wh.x" }), /twice/],
  "a whiteout of a tree": [tar({ name: ".wh.usr" }), /has to be a directory/],
  "a tree that is a link": [tar(symlink("usr", outside)), /has to be a directory/],
  "an opaque root": [tar({ name: ".wh..wh..opq" }), /hides the root/],
  "an opaque tree": [tar({ name: "usr/.wh..wh..opq" }), /hides the root/],
  "the launcher's place": [tar({ name: ".sandbar/" }, { name: ".sandbar/launcher.sh" }), /own mounts/],
  "no place for the launcher": [tar({ name: ".wh..sandbar" }), /own mounts/],
  "a place for the launcher elsewhere": [tar(symlink("./.sandbar", "/tmp")), /own mounts/],
  "a process table": [tar({ name: "proc/self/" }), /own mounts/],
  "a device directory that is a file": [tar({ name: "dev" }), /own mounts/],
  "a file twice": [tar({ name: "a", body: "1" }, { name: "a", body: "2" }), /twice/],
  "a directory twice": [tar({ name: "a/" }, { name: "./a//" }), /twice/],
  "the root twice": [tar({ name: "./" }, { name: "./" }), /twice/],
  "a file as a directory": [tar({ name: "a" }, { name: "a/b" }), /below what is no directory/],
  "no parent": [tar({ name: "a/b" }), /does not have/],
  "a directory with bytes": [tar({ name: "a/", body: "x" }), /has bytes/],
  "an unknown type": [tar({ name: "a", type: "V" }), /unknown type/],
  "an old sparse file": [tar({ name: "a", type: "S" }), /unknown type/],
  "attributes without end": [tar({ name: "a", type: "x", size: 2_000_000 }), /bytes of attributes/],
  "a record too long": [tar({ name: "p", type: "x", body: "99 a=b\n" }, { name: "a" }), /broken PAX record/],
  "a record of no length": [tar({ name: "p", type: "x", body: "0 a=b\n" }, { name: "a" }), /broken PAX record/],
  "a record of another size": [tar({ name: "a", records: records({ size: "-5" }) }), /size is no number/],
  "a size beyond numbers": [tar({ name: "a", records: records({ size: "9999999999999999" }) }), /size out of range/],
  "a size that is not there": [tar({ name: "a", records: records({ size: "9999999999999" }) }), /too early/],
  "an owner beyond numbers": [tar({ name: "a", records: records({ uid: "1e3" }) }), /uid is no number/],
  "a time beyond numbers": [tar({ name: "a", records: records({ mtime: "9".repeat(19) }) }), /mtime is out of range/],
  "a map beyond the file": [
    tar({ name: "a", body: "1\n9000\n10\n".padEnd(512, "\0") + "x".repeat(10), records: sparse("100") }),
    /broken map/,
  ],
  "a map that goes back": [
    tar({ name: "a", body: "2\n10\n1\n0\n1\n".padEnd(512, "\0") + "xx", records: sparse("100") }),
    /broken map/,
  ],
  "a map without end": [tar({ name: "a", body: "9".repeat(512), records: sparse("100") }), /broken map/],
  "an attribute where none can be": [
    tar({ ...symlink("l", "x"), records: records({ "SCHILY.xattr.user.a": "x" }) }),
    /cannot be made: EPERM/,
  ],
  "an access list that is none": [
    tar({ name: "a", records: records({ "SCHILY.xattr.system.posix_acl_access": "x" }) }),
    /cannot be made/,
  ],
  "no archive": [Buffer.alloc(2000, "x"), /broken number/],
  "a damaged header": [Buffer.from(tar({ name: "abc" })).fill("z", 1, 2), /damaged/],
  nothing: [Buffer.alloc(0), /too early/],
  "half a file": [tar({ name: "a", body: big }).subarray(0, 2000), /too early/],
  "no end": [tar({ name: "a", body: big }).subarray(0, 512 + 5120), /too early/],
};

function sparse(size: string): Map<string, Buffer> {
  return records({
    "GNU.sparse.major": "1",
    "GNU.sparse.minor": "0",
    "GNU.sparse.name": "a",
    "GNU.sparse.realsize": size,
  });
}

describe("a layer is refused that has", () => {
  test.for(Object.entries(REFUSED))("%s", async ([, [layer, reason]]) => {
    const error = await unpack(layer).then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(error).toBeInstanceOf(BadLayer);
    expect((error as Error).message).toMatch(reason);
    expect(readdirSync(directory)).toEqual(["outside"]);
    expect(describeTree(outside)).toEqual(before);
  });
});

describe("harmless are", () => {
  test("links that lead out, as long as nothing follows them", async () => {
    const done = await unpack(
      tar(symlink("up", "../../.."), symlink("secret", `${outside}/secret`), link("same", "secret")),
    );
    expect(lstatSync(`${done}/root/same`).isSymbolicLink()).toBe(true);
    expect(describeTree(outside)).toEqual(before);
  });

  test("an overlay's own attributes, which are dropped", async () => {
    const evil = records({
      "SCHILY.xattr.trusted.overlay.redirect": "/etc",
      "SCHILY.xattr.user.overlay.redirect": "/etc",
      "SCHILY.xattr.trusted.overlay.metacopy": "",
      "SCHILY.xattr.user.overlay.opaque": "y",
      "SCHILY.xattr.user.overlay.metacopy": "",
      "SCHILY.xattr.security.selinux": "x",
      "SCHILY.xattr.user.good": "x",
    });
    const done = await unpack(
      tar({ name: "./", records: evil }, { name: "d/", records: evil }, { name: "f", records: evil }),
    );
    for (const path of ["root", "root/d", "root/f"])
      expect(listXattrs(Buffer.from(`${done}/${path}`))).toEqual(["user.good"]);
  });

  test("marks, in the words of the overlay, and bits that only count inside", async () => {
    const layer = tar(
      { name: "usr/", mode: 0o711 },
      { name: "usr/d/" },
      { name: "usr/d/.wh..wh..opq" },
      { name: "usr/.wh.gone" },
      { name: "usr/su", mode: 0o4755 },
    );
    const done = await unpack(layer);
    const gone = lstatSync(`${done}/usr/gone`);
    expect([gone.isCharacterDevice(), gone.rdev]).toEqual([true, 0]);
    expect(listXattrs(Buffer.from(`${done}/usr/d`))).toEqual([`${marks}.overlay.opaque`]);
    expect(lstatSync(`${done}/usr/su`).mode & 0o7777).toBe(0o4755);
    expect([lstatSync(`${done}/usr`).mode & 0o7777, lstatSync(`${done}/root`).mode & 0o7777]).toEqual([0o711, 0o755]);
    expect(existsSync(`${done}/root/usr`)).toBe(false);
  });

  test("GNU's long names, and what comes after the end", async () => {
    const name = `${"n".repeat(150)}`;
    const done = await unpack(
      Buffer.concat([
        tar({ name: "././@LongLink", type: "L", body: `${name}\0` }, { name: "n", body: "here" }),
        Buffer.alloc(3_000_000),
      ]),
    );
    expect(readFileSync(`${done}/root/${name}`, "utf8")).toBe("here");
  });
});

test("a stream that breaks off is no layer, and not the layer's fault", async () => {
  for (const how of ["error", "close"] as const) {
    const stream = new PassThrough();
    const destination = `${directory}/broken`;
    const unpacked = unpackLayer(stream, destination, ["root"]);
    stream.write(tar({ name: "a", body: big }).subarray(0, 2000));
    setTimeout(() => stream.destroy(how === "error" ? new Error("connection lost") : undefined), 100);
    const error = await unpacked.then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(error).not.toBeInstanceOf(BadLayer);
    expect(String(error)).toMatch(how === "error" ? /connection lost/ : /Premature close/);
    expect(existsSync(destination)).toBe(false);
  }
});

test("who else reads the stream gets to know why it ended", async () => {
  const stream = new PassThrough();
  const failed = new Promise((resolve) => stream.once("error", resolve));
  const unpacked = unpackLayer(stream, `${directory}/bad`, ["root"]);
  stream.end(tar({ name: "../x" }));
  await expect(unpacked).rejects.toBeInstanceOf(BadLayer);
  // It had been read to its end before.
  if (!stream.readableEnded) expect(await failed).toBeInstanceOf(BadLayer);
});
