import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { snapshot } from "./image-view.ts";
import { Instance, sleep, type RuntimeName } from "./instance.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { missingForTwoHosts, TwoHosts } from "./second-host.ts";

const script = (name: string) => readFileSync(join(import.meta.dirname, "exactness", name), "utf8");
const [LIST, CHANGE] = [script("list.pl"), script("change.pl")];
const GENERATIONS = 3;
const ENTRIES = 11_500;
const MUTATIONS = 400;
const SEED = Number(process.env["EXACTNESS_SEED"] ?? Math.floor(Math.random() * 1e9));

describe.each(HOST_RUNTIMES)("the filesystem of a snapshot on the %s runtime", (runtime) => {
  let hosts: TwoHosts | undefined;
  let instance: Instance;
  let since = 0;
  beforeAll(async () => {
    if (missingForTwoHosts(runtime)) {
      console.warn(`Generations stay on one host on ${runtime}: ${missingForTwoHosts(runtime)}.`);
      instance = await Instance.start(runtime);
    } else {
      hosts = await TwoHosts.start(runtime);
      ({ instance } = hosts);
    }
    if (runtime === "docker") return;
    // What is below an embedded sandbox is this machine, and a little that its host made at its start: none of it is changed.
    await sleep(2000);
    since = Math.floor(Date.now() / 1000) - 1;
  });
  afterAll(() => hosts?.remove() ?? instance?.remove());

  const create = (generation: number, body: object) =>
    hosts ? hosts.createOn(generation % 2 === 0 ? hosts.a : hosts.b, body) : instance.create(body);

  const change = async (sandboxId: string, seed: number, count: number, isFirst: boolean) => {
    const command = ["perl", "-e", CHANGE, "--", String(seed), String(count), isFirst ? "1" : "0"];
    const { stdout, stderr, returncode } = await instance.exec(sandboxId, command, {}, 120);
    expect([returncode, stdout.trim(), stderr]).toEqual([0, "ok", expect.anything()]);
  };

  const list = async (sandboxId: string) => {
    const command = ["perl", "-e", LIST, "--", String(since)];
    const path = `/sandboxes/${sandboxId}`;
    const { process_id } = await instance.call<{ process_id: string }>("POST", `${path}/exec`, { command });
    const text = await (await instance.fetch(`${path}/processes/${process_id}/stdout?follow=true`)).text();
    const ended = await instance.call("GET", `${path}/processes/${process_id}?wait=60`);
    expect(ended).toMatchObject({ returncode: 0 });
    return text.trimEnd().split("\n");
  };

  it(`is the same through ${GENERATIONS} generations of changes, to the last attribute (seed ${SEED})`, async () => {
    let sandboxId = await create(0, { timeout: 1800 });
    await change(sandboxId, SEED, ENTRIES, true);
    let before = await list(sandboxId);
    const below = Buffer.from("/srv/t/").toString("hex");
    expect(before.filter((line) => line.startsWith(below)).length).toBeGreaterThan(10_000);
    for (let generation = 1; generation <= GENERATIONS; generation++) {
      const { image_id } = await snapshot(instance, sandboxId);
      await instance.call("DELETE", `/sandboxes/${sandboxId}`);
      sandboxId = await create(generation, { image: image_id, timeout: 1800 });
      const after = await list(sandboxId);
      expect(differences(before, after, runtime), `generation ${generation} of seed ${SEED}`).toEqual([]);
      if (runtime === "embedded") expect(await sparse(sandboxId)).toBeLessThan(0.2);
      await change(sandboxId, SEED + generation, MUTATIONS, false);
      before = await list(sandboxId);
    }
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
  }, 300_000);

  /** How much of the files with holes takes room. */
  async function sparse(sandboxId: string): Promise<number> {
    const look =
      "use File::Find; find({no_chdir => 1, wanted => sub { my @s = lstat; if (-f _ && $s[7] >= 1 << 20) " +
      '{ $b += 512 * $s[12] / $s[3]; $a += $s[7] / $s[3] } }}, "/srv/t"); print $b / $a';
    const { stdout } = await instance.exec(sandboxId, ["perl", "-e", look], {}, 60);
    expect(stdout).toMatch(/^0?\.?\d/);
    return Number(stdout);
  }
});

/** What one listing has that the other has not, readable: some of it, the shortest paths first. */
function differences(before: string[], after: string[], runtime: RuntimeName): string[] {
  const comparable = (lines: string[]) => new Set(runtime === "docker" ? lines.map(asEnginesKeepIt) : lines);
  const [had, has] = [comparable(before), comparable(after)];
  const lost = [...had].filter((line) => !has.has(line)).map((line) => ({ line, sign: "-" }));
  const added = [...has].filter((line) => !had.has(line)).map((line) => ({ line, sign: "+" }));
  const pathOf = (line: string) => line.slice(0, line.indexOf(" "));
  return [...lost, ...added]
    .toSorted((a, b) => a.line.length - b.line.length || pathOf(a.line).localeCompare(pathOf(b.line)))
    .slice(0, 40)
    .map(({ line, sign }) => {
      const path = JSON.stringify(Buffer.from(pathOf(line), "hex").toString("latin1"));
      return `${sign} ${path}${line.slice(pathOf(line).length)}`;
    });
}

/**
 * Layers as engines read them have no attribute without a value: in their archives that says that there is none. An engine's own
 * commit, where this user may not pack the files in its place, has no attributes of a user's at all.
 */
function asEnginesKeepIt(line: string): string {
  const [entry = "", attributes = ""] = line.split(" [");
  const lost = process.getuid?.() === 0 ? /^user\..*=$/ : /^user\./;
  const kept = attributes
    .slice(0, -1)
    .split(",")
    .filter((attribute) => !lost.test(attribute));
  return `${entry} [${kept.join(",")}]`;
}
