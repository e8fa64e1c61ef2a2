import { execFileSync } from "node:child_process";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { listFiles, stat } from "../../src/backends/cloudflare/agent/tree.ts";
import { codeOf } from "../backends/under-test.ts";
import { Agent, isRoot, noPerl } from "./cloudflare-agent.ts";
import { useAgent } from "./use-agent.ts";

const dir = mkdtempSync("/tmp/sandbar-agent-tree-");
describe.skipIf(noPerl !== undefined)("directories, by Cloudflare's agent", { timeout: 40_000 }, () => {
  let agent: Agent;
  useAgent(
    (started) => (agent = started),
    () => rmSync(dir, { recursive: true }),
  );

  const list = (path: string, more: { depth?: number; limit?: number; after?: string } = {}) =>
    listFiles(agent, path, { depth: 1, limit: 10_000, ...more });
  const namesIn = (path: string) => readdirSync(path, { recursive: true }).map(String).sort();

  it("say of files what stat says, to the nanosecond", async () => {
    mkdirSync(`${dir}/stat`);
    execFileSync("touch", ["-d", "1969-12-31 23:59:58.000000007Z", `${dir}/stat/old`]);
    execFileSync("touch", ["-d", "2024-05-06 07:08:09.987654321Z", `${dir}/stat/new\nline`]);
    expect(await stat(agent, `${dir}/stat/old`)).toMatchObject({ modified_at: "1969-12-31T23:59:58.000000007Z" });
    expect(await stat(agent, `${dir}/stat/new\nline`)).toMatchObject({
      name: "new\nline",
      modified_at: "2024-05-06T07:08:09.987654321Z",
    });
    symlinkSync("new\nline", `${dir}/stat/link`);
    expect(await stat(agent, `${dir}/stat/link`)).toMatchObject({ symlink_target: "new\nline" });
    if (!isRoot) return;
    chownSync(`${dir}/stat/old`, 4_000_000_000, 54_321);
    expect(await stat(agent, `${dir}/stat/old`)).toMatchObject({ owner: "4000000000", group: "54321" });
  });

  it("say it to the second where the kind of machine is not known", async () => {
    writeFileSync(`${dir}/second`, "x");
    execFileSync("touch", ["-d", "2024-05-06 07:08:09.987654321Z", `${dir}/second`]);
    await Agent.alone(["setarch", "i686"], async (own) => {
      const known = await stat(agent, `${dir}/second`);
      expect(await stat(own, `${dir}/second`)).toEqual({ ...known, modified_at: "2024-05-06T07:08:09.000000000Z" });
    });
  });

  it("list any names as text, in the order of that", async () => {
    const folder = `${dir}/names`;
    mkdirSync(folder);
    const pieces = [
      "a",
      "\xff",
      "\xc3\xa4",
      "\xe2\x82",
      "\xe2\x82\xac",
      "\xed\xa0\x80",
      "\xf0\x9f\x98",
      "\xf0\x9f\x98\x80",
      "\xef\xbd\x9e",
      "\xf5",
      "\xc0\x80",
      "\n",
      "\xf4\x90",
    ];
    const names = pieces.flatMap((one) => pieces.map((other) => one + other + one));
    const raw = names.map((name) => Buffer.from(name, "latin1"));
    for (const name of raw) writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), name]), "");
    const expected = [...new Set(names)].map((name) => `${folder}/${Buffer.from(name, "latin1").toString()}`).sort();
    const { data, more } = await list(folder);
    expect(data.map(({ path }) => path)).toEqual(expected);
    expect(more).toBe(false);
  });

  it("go on behind any path, page by page, across all levels", async () => {
    const folder = `${dir}/pages`;
    for (const one of ["a", "a.b", "a-b", "b"]) {
      mkdirSync(`${folder}/${one}/deep/er`, { recursive: true });
      for (const name of ["1", "2", "x y"]) writeFileSync(`${folder}/${one}/deep/${name}`, "");
    }
    const all = (await list(folder, { depth: 100 })).data.map(({ path }) => path);
    expect(all).toEqual(
      namesIn(folder)
        .map((name) => `${folder}/${name}`)
        .sort(),
    );
    const paged: string[] = [];
    for (let more = true; more;) {
      const page = await list(folder, { depth: 100, limit: 3, ...(paged.length > 0 && { after: paged.at(-1)! }) });
      paged.push(...page.data.map(({ path }) => path));
      more = page.more;
    }
    expect(paged).toEqual(all);
  });

  it("that hold too much are not listed, and those that hold much are", async () => {
    // In memory: so many take long on a disk.
    const folder = mkdtempSync("/dev/shm/sandbar-agent-much-");
    const make = (from: number, to: number) =>
      execFileSync("perl", ["-e", `chdir shift; for (${from} .. ${to}) { open F, ">", $_ }`, folder]);
    try {
      make(1, 199_999);
      const { data, more } = await list(folder, { limit: 10_000, after: `${folder}/9` });
      expect([data.length, more, data[0]!.name]).toEqual([10_000, true, "90"]);
      make(200_000, 200_001);
      expect(await codeOf(list(folder))).toBe("payload_too_large");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
