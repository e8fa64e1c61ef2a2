import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { until } from "./signed-host.ts";
import { BOXES, canRun, nobodysBox, treeBox, type BoxName, type TreeBox } from "./tree-boxes.ts";
import { noEngine } from "./docker-host.ts";

const MIB = 1_048_576;
/** What of a body passes a process though the file itself is written from this machine. */
const NEXT_TO_NOTHING = 1000;

const bytes = (length: number) => Buffer.from(Array.from({ length }, (_, index) => (index * 31) % 251));
const sha = (content: Buffer) => createHash("sha256").update(content).digest("hex");

/** The content in pieces, with pauses before some of them. */
async function* paused(content: Buffer, pauses: Record<number, () => Promise<unknown>>): AsyncGenerator<Buffer> {
  const piece = 64 * 1024;
  for (let at = 0; at < content.length; at += piece) {
    await pauses[at / piece]?.();
    yield content.subarray(at, at + piece);
  }
}

function put(box: TreeBox, path: string, body: Buffer | AsyncIterable<Buffer>, more: Record<string, string> = {}) {
  return box.host.call("PUT", `${box.box}/files?${new URLSearchParams({ path, ...more })}`, { body });
}

const leftovers = (box: TreeBox, dir: string) => box.inside(`ls -A ${dir} /tmp | grep sandbar- || true`);

for (const name of Object.keys(BOXES) as BoxName[]) {
  describe.skipIf(!canRun(name))(`a large file of ${name}`, { timeout: 60_000 }, () => {
    const box = treeBox(name);
    const { isSeen } = BOXES[name];

    test("is all there, whatever its size, and passes no process where this machine may write it", async () => {
      for (const size of [512 * 1024 - 1, 512 * 1024, 512 * 1024 + 1, 5 * MIB + 7]) {
        const before = box.piped;
        const content = bytes(size);
        expect((await put(box, "/srv/new/file", content)).status, String(size)).toBe(204);
        expect(await box.inside("sha256sum </srv/new/file; stat -c '%a %u %h' /srv/new/file")).toBe(
          `${sha(content)}  -\n644 0 1\n`,
        );
        if (size >= 512 * 1024) expect(box.piped - before < NEXT_TO_NOTHING, String(size)).toBe(isSeen);
        await box.inside("rm /srv/new/file");
      }
      expect(await leftovers(box, "/srv/new")).toBe("");
    });

    test("keeps its mode and owner, and the link that leads to it", async () => {
      await box.inside(
        "mkdir -p /srv/kept; cd /srv/kept; printf old >file; chmod 640 file; chown 12:34 file; ln -s file link",
      );
      const content = bytes(3 * MIB);
      expect((await put(box, "/srv/kept/link", content)).status).toBe(204);
      expect(await box.inside("cd /srv/kept; sha256sum <file; stat -c '%a %u %g' file; readlink link")).toBe(
        `${sha(content)}  -\n640 12 34\nfile\n`,
      );
      expect((await put(box, "/srv/kept/file", content, { mode: "0700" })).status).toBe(204);
      expect(await box.inside("stat -c %a /srv/kept/file")).toBe("700\n");
    });

    test("is there under any name, and where no disk is, by a process", async () => {
      const content = bytes(2 * MIB);
      for (const path of [
        "/srv/new\nline/x",
        "/srv/back\\slash/x",
        "/srv/ü/x",
        `/srv/${"long/".repeat(300)}x`,
        "/dev/shm/x",
      ]) {
        const before = box.piped;
        expect((await put(box, path, content)).status, path).toBe(204);
        expect(box.piped - before, path).toBeGreaterThanOrEqual(content.length);
        expect(
          (await box.host.call("GET", `${box.box}/files?${new URLSearchParams({ path })}`)).body.equals(content),
        ).toBe(true);
      }
    });

    test("that breaks off, or has another size, leaves the old one and nothing else", async () => {
      await box.inside("mkdir -p /srv/old; printf old >/srv/old/file");
      const cut = paused(bytes(4 * MIB), {
        40: () => sleep(100).then(() => Promise.reject(new Error("cut"))),
      });
      await expect(put(box, "/srv/old/file", cut)).rejects.toThrow();
      const short = await put(box, "/srv/old/file", bytes(2 * MIB), { size: String(2 * MIB + 1) });
      expect(short.json.code).toBe("invalid_request");
      await until(async () => (await leftovers(box, "/srv/old")) === "");
      expect(await box.inside("cat /srv/old/file")).toBe("old");
      // Nor does a turn stay taken.
      const before = box.piped;
      expect((await put(box, "/srv/old/file", bytes(2 * MIB))).status).toBe(204);
      expect(box.piped - before < NEXT_TO_NOTHING).toBe(isSeen);
    });

    test("may be one of many at once", async () => {
      const content = Array.from({ length: 6 }, (_, index) => bytes(2 * MIB + index));
      const answers = await Promise.all(content.map((one, index) => put(box, `/srv/many/${index}`, one)));
      expect(answers.map((answer) => answer.status)).toEqual(content.map(() => 204));
      expect(await box.inside("cd /srv/many; sha256sum <0; sha256sum <5; ls -A | wc -l")).toBe(
        `${sha(content[0]!)}  -\n${sha(content[5]!)}  -\n6\n`,
      );
    });

    test("is written on once a snapshot is done that came meanwhile", async () => {
      const content = bytes(8 * MIB);
      const image = newId("image");
      const generation = 1;
      let snapshot: Promise<{ status: number; json: Record<string, unknown> }> | undefined;
      const begin = async () => {
        snapshot = box.host.send("POST", `${box.box}/snapshots/${image}?wait_ms=30000`, { generation, stop: false });
        await sleep(50);
      };
      expect((await put(box, "/srv/snapped", paused(content, { 30: begin }))).status).toBe(204);
      expect((await snapshot)?.json).toMatchObject({ kind: "done" });
      expect(await box.inside("sha256sum </srv/snapped")).toBe(`${sha(content)}  -\n`);
      await box.host.call("DELETE", `/v1/images/${image}`);
    });
  });
}

describe.skipIf(noEngine)("a large file of a sandbox that is not root's", () => {
  const box = nobodysBox();

  test("passes a process: who may write what is for the kernel to say", async () => {
    const content = bytes(2 * MIB);
    expect((await put(box, "/tmp/file", content)).status).toBe(204);
    expect(await box.inside("sha256sum </tmp/file; stat -c %u /tmp/file")).toBe(`${sha(content)}  -\n65534\n`);
    expect(box.piped).toBeGreaterThanOrEqual(content.length);
    expect((await put(box, "/etc/file", content)).json.code).toBe("permission_denied");
  });
});
