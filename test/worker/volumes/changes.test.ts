import { describe, expect, it } from "vitest";
import type { VolumeEntry } from "../../../src/contract/volume-sync.ts";
import { ahead, applyChanges, DAY_MS, emptyFile, problemOf, removed, VolumeClient } from "./volume-client.ts";

const names = (count: number) => Array.from({ length: count }, (_, index) => `f${String(index).padStart(3, "0")}`);

/** Reads page after page, and lets something happen in between. */
async function readAll(volume: VolumeClient, since: number, between: (page: number) => Promise<unknown>) {
  const tree = new Map<string, VolumeEntry>();
  let after: string | undefined;
  for (let page = 0; ; page += 1) {
    const changes = await volume.changes({ since, limit: 7, ...(after !== undefined && { after }) });
    expect(changes.entries.length).toBeLessThanOrEqual(7);
    applyChanges(tree, changes.entries);
    if (changes.after === undefined) return { tree, version: changes.version };
    ({ after } = changes);
    await between(page);
  }
}

describe.each([0, 1])("pages since %i", (since) => {
  it("are all there is, each entry once", async () => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(emptyFile("first"));
    await volume.commitEntries(...names(50).map((name) => emptyFile(name)));
    const { tree, version } = await readAll(volume, since, async () => undefined);
    expect(version).toBe(2);
    expect([...tree.keys()]).toEqual(since === 0 ? ["first", ...names(50)] : names(50));
  });

  it("end with what the volume is then, whatever is committed while they are read", async () => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(emptyFile("first"));
    await volume.commitEntries(...names(50).map((name) => emptyFile(name)));
    const { tree, version } = await readAll(volume, since, async (page) => {
      if (page > 8) return;
      // What was told already, what was not, and what is new.
      await volume.commitEntries(removed(`f00${page}`), emptyFile(`f04${page}`, { mode: page }), removed(`f02${page}`));
      await volume.commitEntries(emptyFile(`new${page}`));
    });
    const now = await volume.changes();
    expect(version).toBe(now.version);
    if (since === 1) tree.set("first", emptyFile("first"));
    expect(new Map(now.entries.map((entry) => [entry.path, entry]))).toEqual(tree);
  });
});

it("a page of long files ends before it is too long", async () => {
  const volume = await VolumeClient.create();
  const one = await volume.file("one", new Uint8Array(1024 * 1024));
  const { hash } = one.chunks[0]!;
  const long = names(5).map((path) =>
    emptyFile(path, { size: 60_000 * 1024 * 1024, chunks: Array.from({ length: 60_000 }, () => hash) }),
  );
  await volume.commit(
    { entries: [long[0]!], chunks: one.chunks },
    ...long.slice(1).map((entry) => ({ entries: [entry], chunks: [] })),
  );
  const entries: VolumeEntry[] = [];
  let pages = 0;
  for (let after: string | undefined; ; pages += 1) {
    const changes = await volume.changes(after === undefined ? {} : { after });
    entries.push(...changes.entries);
    ({ after } = changes);
    if (after === undefined) break;
  }
  expect(pages).toBeGreaterThan(1);
  expect(entries).toEqual(long);
  expect(await volume.rpc.contents(volume.scope)).toMatchObject({
    files: 5,
    size: 5 * 60_000 * 1024 * 1024,
    stored_size: 1024 * 1024,
  });
});

it("what was removed is told for a month; who comes later begins anew", async () => {
  const volume = await VolumeClient.create();
  await volume.commitEntries(emptyFile("a"), emptyFile("b"));
  await volume.commitEntries(removed("a"));
  await ahead(DAY_MS, () => volume.rpc.admit(volume.scope, "write"));
  await volume.sweepAfter(29 * DAY_MS);
  expect(await volume.changes({ since: 1 })).toEqual({ version: 2, entries: [removed("a")] });
  await ahead(29 * DAY_MS, () => volume.rpc.admit(volume.scope, "write"));
  await volume.sweepAfter(31 * DAY_MS);
  expect(await problemOf(await volume.call("GET", "changes?since=1"))).toMatchObject({
    code: "conflict",
    detail: expect.stringContaining("begin with 0"),
  });
  expect(await volume.changes({ since: 2 })).toEqual({ version: 2, entries: [] });
  expect(await volume.changes()).toEqual({ version: 2, entries: [emptyFile("b")] });
  expect(await volume.rows("SELECT * FROM commits")).toEqual([]);
});
