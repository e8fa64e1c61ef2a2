import { randomBytes } from "node:crypto";
import { appendFileSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { ChunkCache, hashOf } from "../../../src/host/volumes/cache.ts";

const KIB = 1024;
const dir = mkdtempSync("/tmp/sb-cache-");
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function chunk(length: number) {
  const bytes = randomBytes(length);
  return { hash: hashOf(bytes), bytes };
}

const onDisk = (folder: string) =>
  readdirSync(folder).reduce((sum, name) => sum + statSync(`${folder}/${name}`).size, 0);

test("keeps the chunks that were used last, within its bound, also for the next daemon", () => {
  const folder = `${dir}/bound`;
  const cache = new ChunkCache(folder, 300 * KIB);
  const chunks = Array.from({ length: 10 }, () => chunk(50 * KIB));
  for (const one of chunks) {
    cache.put([one]);
    expect(cache.get(chunks[0]!.hash)).toEqual(chunks[0]!.bytes);
    expect(onDisk(folder)).toBeLessThanOrEqual(300 * KIB);
    expect(onDisk(folder)).toBe(cache.bytes);
  }
  expect(cache.get(chunks[1]!.hash)).toBeUndefined();
  expect(cache.get(chunks[9]!.hash)).toEqual(chunks[9]!.bytes);
  cache.close();
  const next = new ChunkCache(folder, 120 * KIB);
  expect(onDisk(folder)).toBeLessThanOrEqual(120 * KIB);
  expect(next.get(chunks[9]!.hash)).toEqual(chunks[9]!.bytes);
  next.close();
});

test("puts small chunks together, and none twice", () => {
  const folder = `${dir}/small`;
  const cache = new ChunkCache(folder, 10_000 * KIB);
  const chunks = Array.from({ length: 5000 }, (_, index) => chunk(index % 300));
  cache.put(chunks);
  const before = cache.bytes;
  cache.put(chunks);
  expect(cache.bytes).toBe(before);
  expect(readdirSync(folder).length).toBeLessThan(5);
  for (const { hash, bytes } of chunks) expect(cache.get(hash)).toEqual(bytes);
  cache.close();
});

test("gives nothing that is not what it should be", () => {
  const folder = `${dir}/damaged`;
  const one = chunk(KIB);
  const cache = new ChunkCache(folder, 100 * KIB);
  cache.put([one]);
  cache.close();
  const [name] = readdirSync(folder);
  const bytes = readFileSync(`${folder}/${name!}`);
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(`${folder}/${name!}`, bytes);
  appendFileSync(`${folder}/0123456789abcdef.chunks`, "no list");
  writeFileSync(`${folder}/left.new`, "cut off");
  const next = new ChunkCache(folder, 100 * KIB);
  expect(next.get(one.hash)).toBeUndefined();
  expect(readdirSync(folder)).toEqual([]);
  next.put([one]);
  expect(next.get(one.hash)).toEqual(one.bytes);
  next.close();
});
