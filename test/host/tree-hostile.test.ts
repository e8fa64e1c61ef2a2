import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { FileInfo, FileList } from "../../src/contract/file.ts";
import { canRun, treeBox } from "./tree-boxes.ts";

/** For how long the sandbox swaps, of each call. */
const ATTACK_MS = 2_000;

/** What of this machine no sandbox may read, make, move or remove. */
const outside = mkdtempSync("/tmp/sandbar-outside-");
beforeAll(() => {
  mkdirSync(`${outside}/dir/sub`, { recursive: true });
  writeFileSync(`${outside}/dir/secret`, "the host's".repeat(1000));
  writeFileSync(`${outside}/dir/sub/secret`, "the host's");
});
afterAll(() => rmSync(outside, { recursive: true }));

describe.each(["docker, seen from the host", "docker, by scripts", "embedded, seen from the host"] as const)(
  "a sandbox that swaps the way for a link meanwhile: %s",
  (name) => {
    const box = treeBox(name);

    /** Everything out there that a call could have changed, and is the sandbox's where it has the same name. */
    const untouched = () => {
      expect(readdirSync(outside, { recursive: true }).toSorted()).toEqual([
        "dir",
        "dir/secret",
        "dir/sub",
        "dir/sub/secret",
      ]);
      expect(readFileSync(`${outside}/dir/secret`, "utf8")).toBe("the host's".repeat(1000));
    };

    // The same path inside is a directory of the sandbox's own: what is told must be told of that one.
    const ways = [
      outside,
      `../../../../../../..${outside}`,
      `/proc/1/root${outside}`,
      `/proc/self/root/../../..${outside}`,
      "/etc",
    ];

    test.skipIf(!canRun(name))("reaches nothing of the host", { timeout: 60_000 }, async () => {
      await box.inside(
        `mkdir -p ${outside} /tmp/race/way/dir/sub; printf own >/tmp/race/way/dir/own; >/tmp/race/way/dir/secret`,
      );
      // A loop in one shell, without a pause; the last way is put in place of the first.
      const swap = ways.map(
        (way) => `ln -s ${way} link; mv way away; mv link way; mv -T way link; mv away way; rm link`,
      );
      const attack = `cd /tmp/race; while [ ! -e /tmp/enough ]; do ${swap.join("; ")}; done`;
      await box.host.exec(box.box, ["sh", "-c", attack], {}, 0);
      const seen = new Set<string>();
      let looked = 0;
      const tell = (answer: FileInfo | FileList | string) => {
        looked += 1;
        if (typeof answer === "string") seen.add(answer);
        else if ("data" in answer) for (const info of answer.data) seen.add(`${info.name} ${info.size}`);
        else seen.add(`${answer.name} ${answer.size}`);
      };
      const calls: (() => Promise<void>)[] = [
        async () => tell(await box.stat("/tmp/race/way/dir/secret")),
        async () => tell(await box.list("/tmp/race/way/dir")),
        async () => tell(await box.list("/tmp/race/way/dir", { depth: "5" })),
        async () => tell(await box.make("/tmp/race/way/dir/made")),
        async () => tell(await box.make("/tmp/race/way/dir/sub/a/b", true)),
        async () => tell(await box.move("/tmp/race/way/dir/made", "/tmp/race/way/dir/sub/moved")),
        async () => tell(await box.move("/tmp/race/way/dir/secret", "/tmp/race/way/dir/taken")),
        async () => tell(await box.move("/tmp/race/way/dir/taken", "/tmp/race/way/dir/secret")),
        async () => tell(await box.remove("/tmp/race/way/dir/sub/moved", true)),
        async () => tell(await box.remove("/tmp/race/way/dir/sub/secret")),
        async () => tell(await box.remove("/tmp/race/way/dir/sub", true)),
      ];
      for (const call of calls) {
        for (const end = Date.now() + ATTACK_MS; Date.now() < end;) await call();
        untouched();
      }
      await box.inside(">/tmp/enough");
      expect(looked).toBeGreaterThan(calls.length);
      // It did win races, of those it may: its own ways end in what is not there.
      expect(seen).toContain("file_not_found");
      expect(seen).toContain("secret 0");
      expect([...seen].filter((one) => one.includes("10000") || one === "shadow")).toEqual([]);
      expect(existsSync("/etc/dir")).toBe(false);
    });
  },
);
