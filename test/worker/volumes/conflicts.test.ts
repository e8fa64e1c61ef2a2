import { describe, expect, it } from "vitest";
import type { VolumeEntry } from "../../../src/contract/volume-sync.ts";
import { applyChanges, directory, emptyFile, problemOf, removed, symlink, VolumeClient } from "./volume-client.ts";

interface Case {
  what: string;
  before: VolumeEntry[];
  commit: VolumeEntry[];
  after: Record<string, VolumeEntry["type"]>;
}

const CASES: Case[] = [
  {
    what: "a file takes the place of a directory, and what was below goes",
    before: [emptyFile("d/e/x"), emptyFile("d/y"), emptyFile("d.txt"), emptyFile("d0")],
    commit: [emptyFile("d")],
    after: { d: "file", "d.txt": "file", d0: "file" },
  },
  {
    what: "a link, too",
    before: [emptyFile("d/e/x"), directory("d/f")],
    commit: [symlink("d", "elsewhere")],
    after: { d: "symlink" },
  },
  {
    what: "a file gives way to what lies below its path",
    before: [emptyFile("a"), emptyFile("b")],
    commit: [emptyFile("a/b/c")],
    after: { a: "directory", "a/b": "directory", "a/b/c": "file", b: "file" },
  },
  {
    what: "a link gives way, too",
    before: [symlink("a", "b")],
    commit: [emptyFile("a/x")],
    after: { a: "directory", "a/x": "file" },
  },
  {
    what: "a removed directory that something lies in stays",
    before: [emptyFile("d/mine"), emptyFile("d/theirs")],
    commit: [removed("d"), removed("d/mine")],
    after: { d: "directory", "d/theirs": "file" },
  },
  {
    what: "so do those above it",
    before: [emptyFile("a/b/c/mine"), emptyFile("a/b/c/theirs")],
    commit: [removed("a"), removed("a/b"), removed("a/b/c"), removed("a/b/c/mine")],
    after: { a: "directory", "a/b": "directory", "a/b/c": "directory", "a/b/c/theirs": "file" },
  },
  {
    what: "a directory whose all is removed goes",
    before: [emptyFile("d/e/x"), emptyFile("d/y"), emptyFile("z")],
    commit: [removed("d"), removed("d/e"), removed("d/e/x"), removed("d/y")],
    after: { z: "file" },
  },
  {
    what: "removed and something put below is a directory",
    before: [emptyFile("d/x")],
    commit: [removed("d"), removed("d/x"), emptyFile("d/y")],
    after: { d: "directory", "d/y": "file" },
  },
  {
    what: "a removed file with something put below is a directory",
    before: [emptyFile("d")],
    commit: [removed("d"), emptyFile("d/y")],
    after: { d: "directory", "d/y": "file" },
  },
  {
    what: "a directory takes the place of a file",
    before: [emptyFile("d")],
    commit: [directory("d")],
    after: { d: "directory" },
  },
  {
    what: "a file over a directory of which part is removed as well",
    before: [emptyFile("d/x"), emptyFile("d/y")],
    commit: [emptyFile("d"), removed("d/x")],
    after: { d: "file" },
  },
  {
    what: "names in other scripts are names",
    before: [emptyFile("größe/日本/😀"), emptyFile("größe/日本.txt")],
    commit: [emptyFile("größe/日本")],
    after: { größe: "directory", "größe/日本": "file", "größe/日本.txt": "file" },
  },
];

describe.each(CASES)("$what", ({ before, commit, after }) => {
  it("as all see it", async () => {
    const volume = await VolumeClient.create();
    await volume.commitEntries(...before);
    const seen = new Map<string, VolumeEntry>();
    applyChanges(seen, (await volume.changes()).entries);
    await volume.commitEntries(...commit);
    expect(await volume.tree()).toEqual(after);
    applyChanges(seen, (await volume.changes({ since: 1 })).entries);
    expect(Object.fromEntries([...seen].map(([path, { type }]) => [path, type]))).toEqual(after);
    const files = Object.values(after).filter((type) => type === "file").length;
    expect(await volume.rpc.contents(volume.scope)).toMatchObject({ version: 2, files, size: 0 });
  });
});

it("what stays of a removed directory is what it was", async () => {
  const volume = await VolumeClient.create();
  await volume.commitEntries(directory("d", { mode: 0o1777, uid: 5 }), emptyFile("d/x"));
  await volume.commitEntries(removed("d"));
  expect((await volume.changes({ since: 1 })).entries).toEqual([directory("d", { mode: 0o1777, uid: 5 })]);
});

it.each([
  [[emptyFile("a"), emptyFile("a/b")], "cannot be"],
  [[symlink("a", "x"), directory("a/b/c")], "cannot be"],
  [[emptyFile("a"), removed("a")], "twice"],
])("a commit that contradicts itself changes nothing: %j", async (entries, detail) => {
  const volume = await VolumeClient.create();
  await volume.commitEntries(emptyFile("a"));
  const response = await volume.tryCommit({ entries, chunks: [] });
  expect(await problemOf(response)).toMatchObject({ code: "invalid_request", detail: expect.stringContaining(detail) });
  expect(await volume.changes()).toEqual({ version: 1, entries: [emptyFile("a")] });
});

it("commits at once: the last one wins what both have written, and nothing else is lost", async () => {
  const volume = await VolumeClient.create();
  const names = Array.from({ length: 12 }, (_, index) => `h${index}`);
  const parts = await Promise.all(
    names.map(async (name) => {
      const shared = await volume.file("shared/file", `by ${name}`);
      const own = await volume.file(`shared/${name}`, name);
      return { entries: [...shared.entries, ...own.entries], chunks: [...shared.chunks, ...own.chunks] };
    }),
  );
  const versions = await Promise.all(parts.map((part) => volume.commit(part)));
  expect(versions.toSorted((a, b) => a - b)).toEqual(names.map((_, index) => index + 1));
  const { entries } = await volume.changes();
  expect(entries.map(({ path }) => path).toSorted()).toEqual(
    ["shared", "shared/file", ...names.map((name) => `shared/${name}`)].toSorted(),
  );
  const last = parts[versions.indexOf(names.length)]!;
  expect(entries.find(({ path }) => path === "shared/file")).toEqual(last.entries[0]);
  for (const part of parts) expect(entries).toContainEqual(part.entries[1]);
});

it("random commits are what a filesystem would make of them", async () => {
  const volume = await VolumeClient.create();
  const expected = new Map<string, "file" | "directory">();
  const seen = new Map<string, VolumeEntry>();
  let version = 0;
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const isBelow = (path: string, above: string) => path.startsWith(`${above}/`);
  for (let round = 0; round < 60; round += 1) {
    const path = Array.from({ length: 1 + random(3) }, () => "abc"[random(3)]).join("/");
    const kind = (["file", "file", "directory", "removed"] as const)[random(4)]!;
    const entry = kind === "file" ? emptyFile(path) : kind === "directory" ? directory(path) : removed(path);
    await volume.commitEntries(entry);
    const isFull = [...expected.keys()].some((other) => isBelow(other, path));
    if (kind === "removed") {
      if (!isFull) expected.delete(path);
    } else {
      if (kind === "file") for (const other of expected.keys()) if (isBelow(other, path)) expected.delete(other);
      const parts = path.split("/");
      for (let at = 1; at < parts.length; at += 1) expected.set(parts.slice(0, at).join("/"), "directory");
      expected.set(path, kind);
    }
    expect(await volume.tree()).toEqual(Object.fromEntries(expected));
    const changes = await volume.changes({ since: version });
    applyChanges(seen, changes.entries);
    version = changes.version;
    expect([...seen.keys()].toSorted()).toEqual([...expected.keys()].toSorted());
  }
});
