import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { OpenFailure } from "../../../src/host/linux/confined.ts";
import { Baseline } from "../../../src/host/volumes/baseline.ts";
import { scan } from "../../../src/host/volumes/scan.ts";
import { Tree } from "../../../src/host/volumes/tree.ts";

const EMFILE = 24;
const EACCES = 13;

const folder = mkdtempSync("/tmp/sb-scan-");
const tree = new Tree(folder);
const known = Baseline.open(`${folder}/none`);
afterAll(() => {
  tree.close();
  rmSync(folder, { recursive: true });
});

/** The tree, where opening a directory fails with this error. */
const failing = (errno: number): Tree =>
  Object.assign(Object.create(tree) as Tree, {
    openDirectory: () => {
      throw new OpenFailure(errno);
    },
  });

test("a name that is listed twice has changed once", async () => {
  writeFileSync(`${folder}/\uFFFD`, "text");
  writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), Buffer.of(0xff)]), "no text");
  const { changed } = await scan(tree, known, 4095);
  expect(changed).toEqual([{ path: "\uFFFD", type: "file", size: 4 }]);
});

test("a daemon that can open nothing more does not take a folder for one that nobody can look into", async () => {
  await expect(scan(failing(EMFILE), known, 4095)).rejects.toMatchObject({ code: "EMFILE" });
  expect((await scan(failing(EACCES), known, 4095)).unread).toEqual([""]);
});
