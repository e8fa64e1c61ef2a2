import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { watch } from "../../src/backends/cloudflare/agent/watch.ts";
import { asApiError } from "../../src/contract/errors.ts";
import { eventsOf } from "../backends/events-of.ts";
import { Agent, kill, noPerl } from "./cloudflare-agent.ts";
import { useAgent } from "./use-agent.ts";
import { until } from "./signed-host.ts";

const dir = mkdtempSync("/tmp/sandbar-agent-watch-");

describe.skipIf(noPerl !== undefined)("a watch, by Cloudflare's agent", { timeout: 30_000 }, () => {
  let agent: Agent;
  useAgent(
    (started) => (agent = started),
    () => rmSync(dir, { recursive: true }),
  );

  // Every watch is a process, which ends with it.
  beforeEach(() => until(() => agent.children().length === 0));

  /** Opens a watch. `told` is what it has told behind `ready`, one line for each event. */
  async function watching(path: string, { recursive = true, isRunning = true, by = agent } = {}) {
    let done = 0;
    const body = await watch(
      by,
      path,
      recursive,
      () => isRunning,
      () => (done += 1),
    );
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let text = "";
    const ended = (async () => {
      for (let next = await reader.read(); !next.done; next = await reader.read()) text += decoder.decode(next.value);
    })();
    ended.catch(() => undefined);
    const told = () =>
      eventsOf(text)
        .slice(1)
        .map(({ event, data }) => [event, data["from"], data["path"] ?? data["code"]].filter(Boolean).join(" "))
        .map((line) => line.replaceAll(`${dir}/`, ""));
    await until(() => text !== "");
    expect(eventsOf(text)[0]).toEqual({ id: undefined, event: "ready", data: { path } });
    return {
      told,
      ended,
      done: () => done,
      tells: (line: string) => until(() => told().includes(line), 10_000).catch(() => expect(told()).toContain(line)),
      close: () => reader.cancel(),
    };
  }

  const folder = (name: string) => {
    mkdirSync(`${dir}/${name}`, { recursive: true });
    return `${dir}/${name}`;
  };

  it("tells what happens in its order", async () => {
    const path = folder("order");
    const seen = await watching(path);
    mkdirSync(`${path}/a`);
    await seen.tells("create order/a");
    writeFileSync(`${path}/a/file`, "x");
    renameSync(`${path}/a/file`, `${path}/moved`);
    unlinkSync(`${path}/moved`);
    rmSync(`${path}/a`, { recursive: true });
    await seen.tells("remove order/a");
    expect(seen.told().filter((line) => !line.startsWith("modify"))).toEqual([
      "create order/a",
      "create order/a/file",
      "rename order/a/file order/moved",
      "remove order/moved",
      "remove order/a",
    ]);
    await seen.close();
    expect(seen.done()).toBe(1);
  });

  it("tells many changes of a file within a moment once, and the last of them", async () => {
    const path = folder("often");
    writeFileSync(`${path}/file`, "");
    const seen = await watching(path);
    for (let time = 0; time < 2_000; time++) appendFileSync(`${path}/file`, "x");
    await seen.tells("modify often/file");
    const before = seen.told().length;
    expect(before).toBeLessThan(40);
    chmodSync(`${path}/file`, 0o600);
    await until(() => seen.told().length > before);
    await seen.close();
  });

  it("tells every file in what is made quickly, and each once", async () => {
    const path = folder("quick");
    const seen = await watching(path);
    const expected: string[] = [];
    for (let one = 0; one < 100; one++) {
      mkdirSync(`${path}/${one}/b/c`, { recursive: true });
      writeFileSync(`${path}/${one}/b/c/file`, "");
      for (const name of ["", "/b", "/b/c", "/b/c/file"]) expected.push(`create quick/${one}${name}`);
    }
    await seen.tells(expected.at(-1)!);
    const creates = () => seen.told().filter((line) => line.startsWith("create"));
    await until(() => creates().length >= expected.length);
    writeFileSync(`${path}/last`, "");
    await seen.tells("create quick/last");
    expect(creates().sort()).toEqual([...expected, "create quick/last"].sort());
    await seen.close();
  });

  it("knows directories by their new names, and those that are gone no more", async () => {
    const path = folder("names/in/deep");
    const away = folder("away");
    const seen = await watching(`${dir}/names`);
    renameSync(`${dir}/names/in`, `${dir}/names/to`);
    writeFileSync(`${dir}/names/to/deep/one`, "");
    await seen.tells("create names/to/deep/one");
    renameSync(`${dir}/names/to/deep`, `${away}/deep`);
    writeFileSync(`${away}/deep/two`, "");
    renameSync(`${away}/deep`, `${dir}/names/back`);
    writeFileSync(`${dir}/names/back/three`, "");
    await seen.tells("create names/back/three");
    const told = seen.told().filter((line) => !line.startsWith("modify"));
    expect(told).toContain("remove names/to/deep");
    expect(told.filter((line) => line.includes("away") || line.includes(path))).toEqual([]);
    for (const name of ["back", "back/one", "back/two", "back/three"]) {
      expect(told.filter((line) => line === `create names/${name}`)).toHaveLength(1);
    }
    await seen.close();
  });

  it("of a file goes on when another takes its place, and ends when it goes", async () => {
    const path = `${folder("one")}/file`;
    writeFileSync(path, "");
    writeFileSync(`${dir}/one/other`, "");
    linkSync(path, `${dir}/one/same`);
    const seen = await watching(path);
    renameSync(`${dir}/one/other`, path);
    await seen.tells("modify one/file");
    unlinkSync(path);
    await seen.ended;
    expect(seen.told()).toEqual(["modify one/file", "remove one/file"]);
    expect(seen.done()).toBe(1);
  });

  it.each<[string, (path: string) => void]>([
    ["is moved", (path) => renameSync(path, `${path}-moved`)],
    ["goes with the directory that holds it", (path) => renameSync(dirname(path), `${dir}/elsewhere`)],
    ["is removed", (path) => rmSync(path, { recursive: true })],
  ])("ends when what it watches %s", async (_, go) => {
    rmSync(`${dir}/elsewhere`, { recursive: true, force: true });
    const path = folder("holder/ends");
    const seen = await watching(path);
    go(path);
    await seen.ended;
    expect(seen.told().at(-1)).toBe("remove holder/ends");
  });

  it("goes through a link to a directory, and tells by its name", async () => {
    folder("behind/in");
    symlinkSync("behind", `${dir}/link`);
    const seen = await watching(`${dir}/link`);
    writeFileSync(`${dir}/behind/in/file`, "");
    await seen.tells("create link/in/file");
    await seen.close();
  });

  it("says so when more happens than it can tell, and goes on", async () => {
    const path = folder("flood");
    const seen = await watching(path);
    const [pid] = agent.children();
    kill(pid!, "SIGSTOP");
    // More than the kernel keeps of it.
    const [one, other] = [`${path}/one`, `${path}/other`];
    mkdirSync(one);
    for (let time = 0; time < 5_000; time++) {
      renameSync(one, other);
      renameSync(other, one);
    }
    mkdirSync(`${path}/missed`);
    kill(pid!, "SIGCONT");
    await seen.tells("overflow");
    writeFileSync(`${path}/missed/file`, "");
    await seen.tells("create flood/missed/file");
    await seen.close();
  });

  it("keeps nothing running that nobody listens to", async () => {
    const seen = await watching(folder("left"));
    expect(agent.children()).toHaveLength(1);
    await seen.close();
    await until(() => agent.children().length === 0);
  });

  it("ends with the container, and says so when only the agent is lost", async () => {
    await Agent.alone([], async (own) => {
      const path = folder("lost");
      const quiet = await watching(path, { by: own, isRunning: false });
      const loud = await watching(path, { by: own });
      for (const pid of own.children()) kill(pid);
      await Promise.all([quiet.ended, loud.ended]);
      expect([quiet.told(), loud.told()]).toEqual([[], ["error backend_unavailable"]]);
    });
  });

  it("is refused where the kind of machine is not known", async () => {
    await Agent.alone(["setarch", "i686"], async (own) => {
      const opened = watch(
        own,
        dir,
        false,
        () => true,
        () => {},
      );
      expect(asApiError(await opened.catch((error: unknown) => error))?.code).toBe("unsupported_by_backend");
    });
  });
});
