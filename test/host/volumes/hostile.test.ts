import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Engine } from "./engine.ts";

let engine: Engine;
/** A folder of this machine that no sandbox may see or change. */
let outside: string;
const SECRET = "the machine's own";

beforeAll(async () => {
  engine = await Engine.open();
  outside = mkdtempSync("/tmp/sb-outside-");
  mkdirSync(`${outside}/sub`);
  for (const name of ["file", "sub/file"]) writeFileSync(`${outside}/${name}`, SECRET);
});
afterAll(() => {
  engine.close();
  rmSync(outside, { recursive: true, force: true });
});

/** Swaps a directory for a link out of the mount and back, as fast as it can, until it is ended. */
const SWAP = `
  const { renameSync, symlinkSync, rmSync } = require("node:fs");
  const [folder, outside] = process.argv.slice(1);
  symlinkSync(outside, folder + "/link");
  for (;;) {
    try { renameSync(folder + "/dir", folder + "/kept"); renameSync(folder + "/link", folder + "/dir"); } catch {}
    try { renameSync(folder + "/dir", folder + "/link"); renameSync(folder + "/kept", folder + "/dir"); } catch {}
  }`;

async function whileSwapping(folder: string, run: () => Promise<void>): Promise<void> {
  const swapper = spawn(process.execPath, ["-e", SWAP, folder, outside], { stdio: "ignore" });
  const ended = once(swapper, "exit");
  try {
    await run();
  } finally {
    swapper.kill("SIGKILL");
    await ended;
  }
}

const isUnharmed = () => {
  expect(readdirSync(outside).toSorted()).toEqual(["file", "sub"]);
  expect(readdirSync(`${outside}/sub`)).toEqual(["file"]);
  for (const name of ["file", "sub/file"]) expect(readFileSync(`${outside}/${name}`, "utf8")).toBe(SECRET);
};

describe("what a sandbox does in its mount", () => {
  test("lets no commit read what a link leads to", { timeout: 60_000 }, async () => {
    const id = engine.server.create();
    const mount = await engine.mount(engine.volumes(), id);
    mkdirSync(`${mount.folder}/dir/sub`, { recursive: true });
    for (const name of ["file", "sub/file"]) writeFileSync(`${mount.folder}/dir/${name}`, "the sandbox's");
    symlinkSync(`${outside}/file`, `${mount.folder}/to-file`);
    await whileSwapping(mount.folder, async () => {
      for (let round = 0; round < 60; round++) {
        await mount.commit();
        expect(JSON.stringify(engine.server.tree(id))).not.toContain(SECRET);
      }
    });
    expect(engine.server.entry(id, "to-file")).toMatchObject({ type: "symlink", target: `${outside}/file` });
    isUnharmed();
  });

  test("lets no reload write to where a link leads", { timeout: 60_000 }, async () => {
    const id = engine.server.create();
    const writer = await engine.mount(engine.volumes(), id);
    mkdirSync(`${writer.folder}/dir/sub`, { recursive: true });
    writeFileSync(`${writer.folder}/dir/sub/file`, "0");
    await writer.commit();
    const mount = await engine.mount(engine.volumes(), id);
    await whileSwapping(mount.folder, async () => {
      for (let round = 0; round < 40; round++) {
        writeFileSync(`${writer.folder}/dir/file`, `${round}`);
        writeFileSync(`${writer.folder}/dir/sub/${round}`, `${round}`, { mode: 0o777 });
        rmSync(`${writer.folder}/dir/sub/${round - 1}`, { force: true });
        mkdirSync(`${writer.folder}/dir/new-${round}`);
        await writer.commit();
        await mount.reload();
        isUnharmed();
      }
    });
  });

  test("cannot hold up a commit with what is no file", async () => {
    const id = engine.server.create();
    const mount = await engine.mount(engine.volumes(), id);
    await once(spawn("mkfifo", [`${mount.folder}/fifo`]), "exit");
    writeFileSync(Buffer.concat([Buffer.from(`${mount.folder}/`), Buffer.from([0xff, 0xfe])]), "no text");
    writeFileSync(`${mount.folder}/x`, "x");
    expect(await mount.commit()).toMatchObject({ changed_files: 1 });
    expect(engine.server.tree(id)).toEqual({ x: "x" });
  });

  test("cannot be made to be another's by what a volume says of links", async () => {
    const id = engine.server.create();
    const mount = await engine.mount(engine.volumes(), id);
    symlinkSync(outside, `${mount.folder}/dir`);
    await mount.commit();
    const other = await engine.mount(engine.volumes(), id);
    rmSync(`${other.folder}/dir`);
    mkdirSync(`${other.folder}/dir`, { mode: 0o700 });
    writeFileSync(`${other.folder}/dir/file`, "of the volume");
    await other.commit();
    await mount.reload();
    expect(readFileSync(`${mount.folder}/dir/file`, "utf8")).toBe("of the volume");
    isUnharmed();
  });
});
