import { execFileSync } from "node:child_process";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Journal } from "../../src/host/journal.ts";
import { openEmbeddedRuntime } from "../../src/host/embedded/runtime.ts";
import { SignedHost, text, until } from "./signed-host.ts";

const dir = mkdtempSync("/tmp/sb-journal-");
afterAll(() => rmSync(dir, { recursive: true, force: true }));

test("a journal is what was noted, whatever a torn line left", () => {
  const path = `${dir}/journal`;
  const journal = new Journal(path);
  journal.announce({ id: "a", killAt: 5, stdinOffset: 0 });
  journal.note({ id: "a", handle: "7" });
  journal.note({ id: "a", stdinOffset: 12 });
  journal.announce({ id: "b" });
  journal.note({ id: "b", gone: true });
  journal.note({ id: "a", isStdinClosed: true });
  journal.close();
  appendFileSync(path, '{"id":"a","exit":{"retur');
  expect(new Journal(path).processes).toEqual([{ id: "a", killAt: 5, handle: "7" }]);
});

const isRoot = process.getuid?.() === 0;

describe.runIf(isRoot)("on a full disk", () => {
  const disk = `${dir}/disk`;
  let host: SignedHost;
  let box: string;
  beforeAll(async () => {
    execFileSync("mkdir", ["-p", disk]);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m", "tmpfs", disk]);
    const runtime = await openEmbeddedRuntime({ dataDir: mkdtempSync("/tmp/sb-full-") });
    host = await SignedHost.start(runtime, { dataDir: disk });
    box = await host.sandbox();
  });
  afterAll(async () => {
    await host.daemon.close({ stopContainers: true });
    execFileSync("umount", ["-l", disk]);
  });

  test("processes wait for room and lose nothing; new ones are refused; the daemon stays", async () => {
    const running = await host.exec(
      box,
      ["sh", "-c", "read go; head -c 1000000 /dev/zero; exit 3"],
      { open_stdin: true },
      0,
    );
    writeFileSync(`${disk}/fill`, Buffer.alloc(1024 * 1024));
    expect(() => {
      for (;;) appendFileSync(`${disk}/fill`, Buffer.alloc(4096));
    }).toThrow("ENOSPC");
    await host.call("POST", `${box}/processes/${running.process_id}/stdin`, { body: "go\n" });
    // So many that the journal needs another page.
    const refused = await Promise.all(
      Array.from({ length: 60 }, () =>
        host.exec(box, ["true"]).then(
          () => "",
          (error: Error) => error.message,
        ),
      ),
    );
    expect(refused.at(-1)).toContain("backend_unavailable");
    expect((await host.call("GET", box)).json).toMatchObject({ kind: "running" });
    rmSync(`${disk}/fill`);
    const path = `${box}/processes/${running.process_id}`;
    expect((await host.call("GET", `${path}?wait_ms=10000`)).json).toMatchObject({
      returncode: 3,
      stdout_bytes: 1_000_000,
    });
    expect((await host.call("GET", `${path}/stdout`)).body.length).toBe(1_000_000);
    await until(
      async () =>
        (await host.exec(box, ["echo", "again"]).then(
          ({ output }) => text(output!.stdout),
          () => "",
        )) === "again\n",
    );
    const journal = `${disk}/logs/${box.split("/").at(-1)}.1/journal`;
    await until(() => readFileSync(journal, "utf8").includes('"returncode":3'));
  }, 30_000);
});
