import { randomBytes } from "node:crypto";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Volumes } from "../../../src/host/volumes/volumes.ts";
import { Engine } from "./engine.ts";

const MIB = 1024 * 1024;
let engine: Engine;
let here: Volumes;
let there: Volumes;

beforeAll(async () => {
  engine = await Engine.open();
  here = engine.volumes();
  there = engine.volumes();
});
afterAll(() => engine.close(), 180_000);

async function two(sub?: string) {
  const id = engine.server.create();
  const more = sub === undefined ? {} : { sub_path: sub };
  return { id, a: await engine.mount(here, id, more), b: await engine.mount(there, id, more) };
}

describe("what one sandbox commits another sees", () => {
  test("once it has reloaded: files, modes, times, links and empty directories", async () => {
    const { id, a, b } = await two();
    mkdirSync(`${a.folder}/deep/er`, { recursive: true });
    mkdirSync(`${a.folder}/empty`, { mode: 0o700 });
    writeFileSync(`${a.folder}/deep/er/file`, "hello");
    writeFileSync(`${a.folder}/none`, "");
    writeFileSync(`${a.folder}/run`, "#!/bin/sh", { mode: 0o755 });
    chmodSync(`${a.folder}/run`, 0o4755);
    utimesSync(`${a.folder}/run`, 1_000_000, 1_234_567.25);
    symlinkSync("deep/er/file", `${a.folder}/link`);
    const commit = await a.commit();
    expect(commit).toMatchObject({ path: "/data", volume_id: id, version: 1, changed_files: 7 });
    expect(existsSync(`${b.folder}/none`)).toBe(false);
    const reload = await b.reload();
    expect(reload).toMatchObject({ version: 1, changed_files: 7 });
    expect(reload.downloaded_bytes).toBeGreaterThan(0);
    expect(readFileSync(`${b.folder}/link`, "utf8")).toBe("hello");
    expect(readlinkSync(`${b.folder}/link`)).toBe("deep/er/file");
    expect(lstatSync(`${b.folder}/run`).mode & 0o7777).toBe(0o4755);
    expect(lstatSync(`${b.folder}/run`).mtimeMs).toBeCloseTo(1_234_567_250, 0);
    expect(lstatSync(`${b.folder}/empty`).mode & 0o7777).toBe(0o700);
    expect(readFileSync(`${b.folder}/none`, "utf8")).toBe("");
    expect(await b.commit()).toMatchObject({ changed_files: 0, uploaded_bytes: 0 });
  });

  test("removals, moves and what becomes of another kind", async () => {
    const { a, b } = await two();
    mkdirSync(`${a.folder}/tree/below`, { recursive: true });
    writeFileSync(`${a.folder}/tree/below/x`, "x");
    writeFileSync(`${a.folder}/kind`, "a file");
    writeFileSync(`${a.folder}/moved`, randomBytes(300_000));
    await a.commit();
    await b.reload();
    const moved = readFileSync(`${b.folder}/moved`);
    rmSync(`${b.folder}/tree`, { recursive: true });
    writeFileSync(`${b.folder}/tree`, "a file now");
    rmSync(`${b.folder}/kind`);
    mkdirSync(`${b.folder}/kind`);
    writeFileSync(`${b.folder}/kind/in`, "y");
    renameSync(`${b.folder}/moved`, `${b.folder}/kind/moved`);
    const commit = await b.commit();
    expect(commit.uploaded_bytes).toBeLessThan(10_000);
    const reload = await a.reload();
    expect(reload.downloaded_bytes).toBeLessThan(10_000);
    expect(readFileSync(`${a.folder}/tree`, "utf8")).toBe("a file now");
    expect(readFileSync(`${a.folder}/kind/in`, "utf8")).toBe("y");
    expect(readFileSync(`${a.folder}/kind/moved`).equals(moved)).toBe(true);
    expect(existsSync(`${a.folder}/moved`)).toBe(false);
  });

  test("the last writer of a file wins, and nothing else is lost", async () => {
    const { id, a, b } = await two();
    writeFileSync(`${a.folder}/both`, "first");
    await a.commit();
    await b.reload();
    writeFileSync(`${a.folder}/both`, "of a");
    writeFileSync(`${a.folder}/only-a`, "a");
    writeFileSync(`${b.folder}/both`, "of b, the last");
    writeFileSync(`${b.folder}/only-b`, "b");
    await Promise.all([a.commit(), b.commit().then(() => undefined)]);
    writeFileSync(`${b.folder}/both`, "of b, the very last");
    await b.commit();
    await Promise.all([a.reload(), b.reload()]);
    const all = { both: "of b, the very last", "only-a": "a", "only-b": "b" };
    expect(engine.server.tree(id)).toEqual(all);
    for (const { folder } of [a, b])
      for (const [name, text] of Object.entries(all)) expect(readFileSync(`${folder}/${name}`, "utf8")).toBe(text);
  });

  test("what is written within one tick of the clock after a commit", async () => {
    const { id, a } = await two();
    for (let round = 0; round < 20; round++) {
      writeFileSync(`${a.folder}/same-size`, `round ${String(round).padStart(2, "0")}`);
      await a.commit();
      expect(engine.server.content(id, "same-size").toString()).toBe(`round ${String(round).padStart(2, "0")}`);
    }
  });

  test("only below its sub_path, which need not be there before", async () => {
    const { id, a, b } = await two("models/v1");
    writeFileSync(`${a.folder}/weights`, "w");
    await a.commit();
    const whole = await engine.mount(here, id);
    expect(readFileSync(`${whole.folder}/models/v1/weights`, "utf8")).toBe("w");
    writeFileSync(`${whole.folder}/outside`, "o");
    rmSync(`${whole.folder}/models/v1/weights`);
    await whole.commit();
    await b.reload();
    await a.reload();
    expect(existsSync(`${a.folder}/weights`)).toBe(false);
    expect(existsSync(`${a.folder}/outside`)).toBe(false);
    expect(Object.keys(engine.server.tree(id))).toEqual(["models", "models/v1", "outside"]);
  });
});

describe("only what is new moves", () => {
  test("nothing of what is unchanged, in one call", async () => {
    const { a, b } = await two();
    writeFileSync(`${a.folder}/x`, "x");
    await a.commit();
    await b.reload();
    const before = engine.server.calls.length;
    expect(await a.commit()).toMatchObject({ version: 1, changed_files: 0, uploaded_bytes: 0 });
    expect(engine.server.calls.length).toBe(before);
    const begin = performance.now();
    expect(await b.reload()).toMatchObject({ version: 1, changed_files: 0 });
    expect(performance.now() - begin).toBeLessThan(100);
    expect(engine.server.calls.slice(before).map(({ name }) => name)).toEqual(["GET changes"]);
  });

  test("1 MiB of a large file, up and down", async () => {
    const { id, a, b } = await two();
    writeFileSync(`${a.folder}/large`, randomBytes(40 * MIB));
    await a.commit();
    await b.reload();
    const changed = randomBytes(MIB);
    const file = readFileSync(`${a.folder}/large`);
    changed.copy(file, 7 * MIB);
    writeFileSync(`${a.folder}/large`, file);
    const before = engine.server.sentBytes();
    const commit = await a.commit();
    expect(commit.uploaded_bytes).toBeLessThan(1.2 * MIB);
    expect(commit.uploaded_bytes).toBe(engine.server.sentBytes() - before);
    expect(engine.server.content(id, "large").equals(file)).toBe(true);
    const fresh = engine.volumes({ cacheBytes: 0 });
    const none = await engine.mount(fresh, id);
    expect(readFileSync(`${none.folder}/large`).equals(file)).toBe(true);
    changed.fill(1).copy(file, 20 * MIB);
    writeFileSync(`${a.folder}/large`, file);
    await a.commit();
    const reload = await none.reload();
    expect(reload.downloaded_bytes).toBeLessThan(1.2 * MIB);
    expect(readFileSync(`${none.folder}/large`).equals(file)).toBe(true);
    expect((await b.reload()).changed_files).toBe(1);
  });

  test("a host downloads a chunk once, for all of its sandboxes, and keeps no more than it may", async () => {
    const id = engine.server.create();
    const a = await engine.mount(here, id);
    writeFileSync(`${a.folder}/x`, randomBytes(5 * MIB + 17));
    await a.commit();
    const small = engine.volumes({ cacheBytes: 3 * MIB });
    await engine.mount(there, id);
    const before = engine.server.count("GET packs");
    await engine.mount(there, id);
    expect(engine.server.count("GET packs")).toBe(before);
    const c = await engine.mount(small, id);
    expect(readFileSync(`${c.folder}/x`).equals(readFileSync(`${a.folder}/x`))).toBe(true);
    const kept = execFileSync("du", ["-sb", `${c.folder}/../../../../cache`]).toString();
    expect(Number.parseInt(kept)).toBeLessThan(3.5 * MIB);
  });

  test("20,000 small files", { timeout: 120_000 }, async () => {
    const { a, b } = await two();
    for (let folder = 0; folder < 100; folder++) {
      mkdirSync(`${a.folder}/${folder}`);
      for (let file = 0; file < 200; file++) writeFileSync(`${a.folder}/${folder}/${file}`, `${folder} ${file}`);
    }
    const begin = performance.now();
    expect(await a.commit()).toMatchObject({ changed_files: 20_100 });
    const committed = performance.now();
    expect(await b.reload()).toMatchObject({ changed_files: 20_100 });
    const reloaded = performance.now();
    expect(await b.commit()).toMatchObject({ changed_files: 0 });
    console.log(
      `20,000 small files: commit ${Math.round(committed - begin)} ms, reload ${Math.round(reloaded - committed)} ms, ` +
        `commit of nothing ${Math.round(performance.now() - reloaded)} ms`,
    );
    expect(readFileSync(`${b.folder}/99/199`, "utf8")).toBe("99 199");
    expect(reloaded - begin).toBeLessThan(60_000);
  });
});
