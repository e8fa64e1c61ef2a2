import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TarCheck } from "../../src/host/archive/tar-check.ts";

const dir = mkdtempSync("/tmp/sandbar-tar-");
const pack = (...args: string[]) => execFileSync("tar", ["-C", dir, "-cf", "-", ...args], { maxBuffer: 1e9 });
const check = (archive: Buffer, chunk = archive.length || 1) => {
  const reader = new TarCheck();
  for (let at = 0; at < archive.length; at += chunk) reader.push(archive.subarray(at, at + chunk));
  reader.end();
};
const refused = expect.objectContaining({ code: "invalid_request" });

beforeAll(() => {
  const deep = `${dir}/all/${"d".repeat(150)}/${"e".repeat(200)}`;
  mkdirSync(deep, { recursive: true });
  writeFileSync(`${deep}/file`, Buffer.alloc(70_000, 1));
  writeFileSync(`${dir}/all/odd\nname`, Buffer.alloc(513, 2));
  symlinkSync(`/${"x".repeat(300)}`, `${dir}/all/link`);
  writeFileSync(`${dir}/all/holes`, "");
  truncateSync(`${dir}/all/holes`, 100_000_000);
  for (let i = 0; i < 30; i++)
    execFileSync(
      "dd",
      ["if=/dev/urandom", `of=${dir}/all/holes`, "bs=4k", "count=1", `seek=${i * 500}`, "conv=notrunc"],
      { stdio: "pipe" },
    );
});
afterAll(() => rmSync(dir, { recursive: true }));

test.each(["gnu", "oldgnu", "posix"])("an archive of the format %s passes, however it is cut into parts", (format) => {
  for (const sparse of [[], ["-S"]]) {
    const archive = pack(`--format=${format}`, ...sparse, sparse.length > 0 ? "all" : `all/${"d".repeat(150)}`);
    for (const chunk of [7, 511, 512, 513, 4096, 10_000, archive.length]) check(archive, chunk);
    expect(() => check(archive.subarray(0, archive.length / 2))).toThrow(refused);
  }
});
test("an archive that holds nothing passes, and no archive does not", () => {
  check(Buffer.alloc(10_240));
  expect(() => check(Buffer.alloc(0))).toThrow(refused);
  expect(() => check(Buffer.from("no tar"))).toThrow(refused);
  expect(() => check(Buffer.alloc(1024, 1))).toThrow(refused);
});
test("any damage of a header is noticed", () => {
  const archive = pack("--format=gnu", "all/odd\nname");
  for (let at = 0; at < 512; at++) {
    const damaged = Buffer.from(archive);
    damaged[at] = damaged[at]! ^ 0x15;
    // Blanks and digits of the sum itself may be written in more than one way.
    if (at >= 148 && at < 156) continue;
    expect(() => check(damaged), String(at)).toThrow(refused);
  }
});
