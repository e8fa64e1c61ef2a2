import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeFile } from "../../src/host/files.ts";
import type { Container } from "../../src/host/runtime.ts";
import { failureAsRoot } from "./as-root.ts";
import { DockerHost, noEngine, sh, spec } from "./docker-host.ts";
import { canRun, treeBox } from "./tree-boxes.ts";

const MIB = 1_048_576;
/** How long the sandbox has to put something else in the place of the temporary file, before any of it is opened from this machine. */
const SWAP_MS = 300;
/** For how long it swaps what is on the way. */
const ATTACK_MS = 4_000;

/** What of this machine no sandbox may write. */
const outside = mkdtempSync("/tmp/sandbar-outside-");
const untouched = () => {
  expect(readdirSync(outside).toSorted()).toEqual(["empty", "secret"]);
  expect(statSync(`${outside}/empty`).size).toBe(0);
  expect(readFileSync(`${outside}/secret`, "utf8")).toBe("the host's");
};
beforeAll(() => {
  writeFileSync(`${outside}/empty`, "");
  writeFileSync(`${outside}/secret`, "the host's");
});
afterAll(() => rmSync(outside, { recursive: true }));

async function* late(size: number, pauseMs: number): AsyncGenerator<Buffer> {
  yield Buffer.alloc(65_536, 1);
  await sleep(pauseMs);
  for (let sent = 65_536; sent < size; sent += 65_536) yield Buffer.alloc(65_536, 1);
}

describe.each(["docker, seen from the host", "embedded, seen from the host"] as const)(
  "a sandbox that is in the way of a large file: %s",
  (name) => {
    const box = treeBox(name);
    const put = (path: string, body: AsyncIterable<Buffer>) =>
      box.host.call("PUT", `${box.box}/files?${new URLSearchParams({ path })}`, { body });

    const swaps = {
      "a link to what the host has": `ln -s ${outside}/empty new`,
      "a link that leads up": `ln -s ../../../../../../../..${outside}/empty new`,
      "a link through /proc": `ln -s /proc/1/root${outside}/empty new`,
      "a FIFO": "mkfifo new",
      "a socket's or a device's node": "mknod new c 1 3 || mkfifo new",
      "a second name of a file": ">other; ln other new",
      "a file with content": "echo content >new",
      "a directory": "mkdir new",
      // F_SETLEASE, F_WRLCK: whoever opens it without care waits for this process.
      "a file with a lease on it": `perl -e '$SIG{IO} = "IGNORE"; open F, "+>new"; fcntl F, 1024, 1 or die; rename "new", $ARGV[0]; sleep 15' "$one" &
        sleep 0.1`,
      nothing: "true",
    };
    for (const [what, swap] of Object.entries(swaps)) {
      test.skipIf(!canRun(name))(`puts ${what} there instead`, { timeout: 100_000 }, async () => {
        await box.inside("rm -rf /srv/swap /tmp/enough; mkdir -p /srv/swap");
        const attack = `cd /srv/swap; while [ ! -e /tmp/enough ]; do for one in .sandbar-*; do
          if [ -f "$one" ]; then rm -f "$one" other; ${swap}; mv -T new "$one"; exit; fi; done; done`;
        await box.host.exec(box.box, ["sh", "-c", attack], {}, 0);
        const begin = Date.now();
        // Whether it says so or not: it is the sandbox's own file that is spoilt.
        await put("/srv/swap/file", late(3 * MIB, SWAP_MS));
        await box.inside(">/tmp/enough");
        // Where the swap is faster than the script, it waits for somebody who reads the FIFO, until the write is given up.
        expect(Date.now() - begin).toBeLessThan(what.includes("FIFO") || what.includes("node") ? 75_000 : 10_000);
        untouched();
        expect((await put("/srv/well", late(2 * MIB, 0))).status).toBe(204);
      });
    }

    test.skipIf(!canRun(name))("swaps the directory for links all the time", { timeout: 60_000 }, async () => {
      await box.inside(`rm -rf /srv/race /tmp/enough; mkdir -p ${outside} /srv/race/way`);
      const ways = [outside, `../../../../../../..${outside}`, `/proc/1/root${outside}`, "/dev", "/proc/self/fd"];
      const swap = ways.map(
        (way) => `ln -s ${way} link; mv way away; mv link way; mv -T way link; mv away way; rm link`,
      );
      const attack = `cd /srv/race; while [ ! -e /tmp/enough ]; do ${swap.join("; ")}; done`;
      await box.host.exec(box.box, ["sh", "-c", attack], {}, 0);
      const codes = new Set<unknown>();
      for (const end = Date.now() + ATTACK_MS; Date.now() < end;) {
        const answer = await put("/srv/race/way/file", late(MIB, 0));
        codes.add(answer.status);
        untouched();
      }
      await box.inside(">/tmp/enough");
      expect(codes.size).toBeGreaterThan(0);
      expect((await put("/srv/well", late(2 * MIB, 0))).status).toBe(204);
    });
  },
);

describe.skipIf(noEngine)("a large file in a folder of this machine", () => {
  const dir = mkdtempSync("/tmp/sandbar-small-disk-");
  const disk = `${dir}/disk`;
  let docker: DockerHost;
  let container: Container;
  let unmountable: string | undefined;

  beforeAll(async () => {
    mkdirSync(disk);
    execFileSync("truncate", ["-s", "8M", `${dir}/image`]);
    unmountable =
      failureAsRoot("mkfs.ext4", "-q", "-m", "0", `${dir}/image`) ??
      failureAsRoot("mount", "-o", "loop", `${dir}/image`, disk);
    docker = await DockerHost.open();
    container = await docker.runtime.start(spec(), [
      { source: disk, path: "/disk", readOnly: false },
      { source: disk, path: "/seen", readOnly: true },
    ]);
  });
  afterAll(async () => {
    await container.stop();
    await docker.close();
    if (unmountable === undefined) execFileSync("umount", [disk]);
    rmSync(dir, { recursive: true });
  });
  const write = async (path: string, size: number) => {
    const parts = Array.from({ length: size / 65_536 }, () => Buffer.alloc(65_536, 1));
    const body = Object.assign(Readable.from(parts), { complete: true }) as unknown as IncomingMessage;
    await writeFile(container, path, body, { size });
  };

  test("says when the disk is full, and leaves the old one and nothing else", async (context) => {
    if (unmountable !== undefined) return context.skip(unmountable);
    await sh(container, "printf old >/disk/file");
    await expect(write("/disk/file", 16 * MIB)).rejects.toMatchObject({ code: "disk_full" });
    expect(readdirSync(disk).toSorted()).toEqual(["file", "lost+found"]);
    expect(readFileSync(`${disk}/file`, "utf8")).toBe("old");
    await write("/disk/file", 2 * MIB);
    expect(statSync(`${disk}/file`).size).toBe(2 * MIB);
  });

  test("is not to be where the container may only read", async () => {
    await expect(write("/seen/file", 2 * MIB)).rejects.toMatchObject({ code: "permission_denied" });
    expect(readdirSync(disk).filter((one) => one.includes("sandbar"))).toEqual([]);
  });
});
