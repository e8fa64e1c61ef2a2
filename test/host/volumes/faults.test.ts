import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Volumes } from "../../../src/host/volumes/volumes.ts";
import { until } from "../signed-host.ts";
import type { Fate } from "../volume-server.ts";
import { Engine } from "./engine.ts";

let engine: Engine;
let here: Volumes;

beforeAll(async () => {
  engine = await Engine.open();
  here = engine.volumes();
});
afterAll(() => engine.close());

/** Makes the calls after so many fail, all of them; the answer says how many there were before. */
function failFrom(index: number, fate: Fate): void {
  const before = engine.server.calls.length;
  engine.server.fate = (_, at) => (at - before >= index ? fate : undefined);
}

const heal = () => (engine.server.fate = () => undefined);

describe.each(["cut", "lost", 503] as const)("a commit whose calls fail (%s)", (fate) => {
  test("leaves the old or the new version, and goes on when it is asked again", async () => {
    for (let index = 0; ; index++) {
      const id = engine.server.create();
      const mount = await engine.mount(here, id);
      writeFileSync(`${mount.folder}/old`, "old");
      writeFileSync(`${mount.folder}/gone`, "gone");
      await mount.commit();
      const [before, after] = [
        { old: "old", gone: "gone" },
        { d: "directory/", "d/big": "b".repeat(3_000_000), old: "new" },
      ];
      mkdirSync(`${mount.folder}/d`);
      writeFileSync(`${mount.folder}/d/big`, "b".repeat(3_000_000));
      writeFileSync(`${mount.folder}/old`, "new");
      rmSync(`${mount.folder}/gone`);
      failFrom(index, fate);
      const failed = await mount.commit().then(
        () => undefined,
        (error: { code: string; detail: string }) => error,
      );
      heal();
      const sorted = Object.fromEntries(Object.entries(engine.server.tree(id)).toSorted());
      expect([before, after]).toContainEqual(sorted);
      if (!failed) {
        expect(sorted).toEqual(after);
        expect(index).toBeGreaterThan(2);
        return;
      }
      expect(failed.code).toBe("volume_not_stored");
      expect(failed.detail).toMatch(/^\/data of vo-\S+: 4 files \(3000003 bytes\) are not durable yet: /);
      const { version } = await mount.commit();
      expect(version).toBe(2);
      expect(engine.server.tree(id)).toEqual(after);
      expect(await mount.commit()).toMatchObject({ changed_files: 0, uploaded_bytes: 0 });
    }
  });
});

test("one volume that fails does not keep the others from being stored", async () => {
  const ids = [engine.server.create(), engine.server.create()];
  const start = { sandboxId: "sb-two", generation: 1 };
  const binds = await here.prepare(start, [
    engine.server.mount(ids[0]!, { path: "/a" }),
    engine.server.mount(ids[1]!, { path: "/b" }),
  ]);
  for (const { source } of binds) writeFileSync(`${source}/x`, "x");
  engine.server.drop(ids[0]!);
  const failed = here.commit(start);
  await expect(failed).rejects.toMatchObject({ code: "volume_not_stored", extra: { paths: ["/a"] } });
  expect(engine.server.tree(ids[1]!)).toEqual({ x: "x" });
  expect(await here.commit(start, ["/b"])).toMatchObject([{ path: "/b", changed_files: 0 }]);
  await expect(here.commit(start, ["/c"])).rejects.toMatchObject({ code: "invalid_request" });
  await here.end(start);
});

test("a reload that breaks off goes on when it is asked again, and shows no half file", async () => {
  const id = engine.server.create();
  const a = await engine.mount(here, id);
  const b = await engine.mount(engine.volumes(), id);
  const content = randomBytes(5_000_000);
  for (let i = 0; i < 5; i++) writeFileSync(`${a.folder}/${i}`, content.subarray(i * 1_000));
  await a.commit();
  engine.server.fate = (name) => (name === "GET packs" ? "cut" : undefined);
  await expect(b.reload()).rejects.toMatchObject({ code: "backend_unavailable" });
  heal();
  expect(await b.reload()).toMatchObject({ version: 1, changed_files: 5 });
  for (let i = 0; i < 5; i++) expect(readFileSync(`${b.folder}/${i}`).equals(content.subarray(i * 1_000))).toBe(true);
});

test("what is written while a reload waits for its bytes is not lost", async () => {
  const id = engine.server.create();
  const a = await engine.mount(here, id);
  const b = await engine.mount(engine.volumes({ cacheBytes: 0 }), id);
  writeFileSync(`${a.folder}/x`, "of a");
  writeFileSync(`${a.folder}/y`, "of a");
  await a.commit();
  engine.server.fate = (name) => {
    if (name === "GET packs") writeFileSync(`${b.folder}/x`, "of b, meanwhile");
    return undefined;
  };
  await b.reload();
  heal();
  expect(readFileSync(`${b.folder}/x`, "utf8")).toBe("of b, meanwhile");
  expect(readFileSync(`${b.folder}/y`, "utf8")).toBe("of a");
  await b.commit();
  expect(engine.server.tree(id)).toEqual({ x: "of b, meanwhile", y: "of a" });
});

test("what cannot be stored at the end is stored later, also by the next daemon", async () => {
  const id = engine.server.create();
  const dir = `${engine.dir}/end`;
  const first = engine.volumes({ dir });
  const mount = await engine.mount(first, id);
  writeFileSync(`${mount.folder}/x`, "x");
  failFrom(0, 503);
  const ended = mount.end();
  await until(() => engine.server.count("POST missing") > 0);
  first.close();
  await ended;
  heal();
  engine.volumes({ dir }).recover([]);
  await until(() => engine.server.version(id) === 1);
  expect(engine.server.tree(id)).toEqual({ x: "x" });
});

test("a file that is written all the time is whole in the background, and taken as it is when asked for", async () => {
  const id = engine.server.create();
  const busy = engine.volumes({ backgroundMs: 20 });
  const mount = await engine.mount(busy, id);
  writeFileSync(`${mount.folder}/quiet`, "q");
  await until(() => engine.server.tree(id)["quiet"] === "q");
  const size = 4_000_000;
  let round = 0;
  const write = () => writeFileSync(`${mount.folder}/busy`, Buffer.alloc(size, (round++ % 26) + 97));
  write();
  const writing = setInterval(write, 1);
  try {
    await mount.commit();
    expect(engine.server.entry(id, "busy")).toMatchObject({ type: "file" });
  } finally {
    clearInterval(writing);
  }
  await until(async () => {
    const content = engine.server.content(id, "busy");
    return content.equals(readFileSync(`${mount.folder}/busy`));
  });
});

test("what was removed long ago is removed by a reload, too", async () => {
  const id = engine.server.create();
  const a = await engine.mount(here, id);
  const b = await engine.mount(here, id);
  mkdirSync(`${a.folder}/d`);
  for (const name of ["d/x", "y", "z"]) writeFileSync(`${a.folder}/${name}`, name);
  await a.commit();
  await b.reload();
  rmSync(`${a.folder}/d`, { recursive: true });
  rmSync(`${a.folder}/y`);
  await a.commit();
  engine.server.forgetRemoved(id);
  writeFileSync(`${b.folder}/own`, "own");
  await b.reload();
  expect(readdirSync(b.folder).toSorted()).toEqual(["own", "z"]);
  expect(engine.server.tree(id)).toEqual({ own: "own", z: "z" });
});

test("a chunk that the volume has forgotten between the question and the commit is sent", async () => {
  const id = engine.server.create();
  const mount = await engine.mount(here, id);
  writeFileSync(`${mount.folder}/x`, "content");
  await mount.commit();
  writeFileSync(`${mount.folder}/y`, "content");
  let isForgotten = false;
  engine.server.fate = (name) => {
    if (name === "POST parts" && !isForgotten) {
      isForgotten = true;
      engine.server.forgetChunks(id);
    }
    return undefined;
  };
  await mount.commit();
  heal();
  expect(engine.server.content(id, "y").toString()).toBe("content");
});
