import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Pool } from "../../src/contract/pool.ts";
import { Instance, type SandboxView } from "./instance.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { WarmContainers } from "./warm-containers.ts";

const GONE = { timeout: 20_000, interval: 200 };

describe.runIf(HOST_RUNTIMES.includes("docker"))("warm pools", () => {
  let instance: Instance;
  let containers: WarmContainers;
  beforeAll(async () => {
    instance = await Instance.start("docker");
    containers = new WarmContainers(instance);
  });
  afterAll(() => instance?.remove());

  const end = (sandboxId: string) => instance.call("DELETE", `/sandboxes/${sandboxId}`);
  const drop = (poolId: string) => instance.call("DELETE", `/pools/${poolId}`);
  const ended = (sandboxId: string) => instance.call<SandboxView>("GET", `/sandboxes/${sandboxId}/wait?timeout=30`);
  const shell = async (sandboxId: string, script: string) =>
    (await instance.exec(sandboxId, ["sh", "-c", script])).stdout;
  const untilGone = (ids: string[]) =>
    expect
      .poll(async () => {
        const all = await containers.all();
        return ids.filter((id) => all.has(id));
      }, GONE)
      .toEqual([]);

  it("give creates what was there before, with all that is a sandbox's own, and are filled again", async () => {
    const poolId = await containers.fill(3, { workdir: "/srv", memory: 128 });
    const before = await containers.ahead();
    expect(before).toHaveLength(3);
    const create = { workdir: "/srv", memory: 128, timeout: 600 };
    const entrypoint = ["sh", "-c", "echo $WHO in $PWD; sleep 300"];
    const names = ["ann", "bob", "cid"];
    const taken = await Promise.all(names.map((WHO) => instance.create({ ...create, entrypoint, env: { WHO } })));
    const own = await Promise.all(taken.map((sandboxId) => containers.of(sandboxId)));
    expect(own.toSorted()).toEqual(before.toSorted());
    for (const [index, sandboxId] of taken.entries()) {
      expect(await shell(sandboxId, "echo $WHO in $PWD; echo no >&2; exit 3")).toBe(`${names[index]} in /srv\n`);
      const { data } = await instance.call<{ data: { process_id: string }[] }>(
        "GET",
        `/sandboxes/${sandboxId}/processes`,
      );
      const main = `/sandboxes/${sandboxId}/processes/${data[0]!.process_id}/stdout`;
      expect(await (await instance.fetch(main)).text()).toBe(`${names[index]} in /srv\n`);
    }
    await containers.untilFull(poolId);
    const after = await containers.ahead();
    expect(after).toHaveLength(6);
    expect(after).toEqual(expect.arrayContaining(before));
    // Of one that asks for something else none is taken.
    const other = await instance.create({ ...create, memory: 256 });
    expect(await containers.ahead()).not.toContain(await containers.of(other));
    await Promise.all([...taken, other].map(end));
    await drop(poolId);
    await expect.poll(() => containers.all(), GONE).toEqual(new Map());
  });

  it("give sandboxes that end as others do, and leave nothing of them", async () => {
    const poolId = await containers.fill(3);
    const before = await containers.ahead();
    const lifetimes = [{ entrypoint: ["sh", "-c", "sleep 1; exit 7"] }, { timeout: 2 }, {}];
    const taken = await Promise.all(lifetimes.map((lifetime) => instance.create(lifetime)));
    await Promise.all(taken.map((sandboxId) => instance.until(sandboxId, ["ready", "finished", "terminated"])));
    await end(taken[2]!);
    expect(await Promise.all(taken.map(ended))).toMatchObject([
      { state: "finished", finish_reason: "exited", returncode: 7 },
      { state: "terminated", finish_reason: "timeout", returncode: 124 },
      { state: "terminated", finish_reason: "terminated", returncode: 137 },
    ]);
    await containers.untilFull(poolId);
    await expect.poll(async () => (await containers.ahead()).length, GONE).toBe(3);
    for (const id of await containers.ahead()) expect(before).not.toContain(id);
    await drop(poolId);
  });

  it("show nothing of one sandbox to the next", async () => {
    const poolId = await containers.fill(2);
    const used = new Set<string>();
    for (let round = 0; round < 5; round++) {
      await containers.untilFull(poolId);
      const before = await containers.ahead();
      const sandboxId = await instance.create({ env: { SECRET: `secret-${round}` } });
      const id = await containers.of(sandboxId);
      expect(before).toContain(id);
      expect(used).not.toContain(id);
      used.add(id);
      const seen = await shell(sandboxId, "ls -A /tmp /root /var/tmp; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline");
      expect(new Set(seen.match(/secret-\d/g))).toEqual(new Set([`secret-${round}`]));
      expect(seen).not.toMatch(/left-behind|31415/);
      await shell(sandboxId, "touch /tmp/left-behind /root/left-behind; sleep 31415 >/dev/null 2>&1 &");
      await end(sandboxId);
    }
    await untilGone([...used]);
    await drop(poolId);
  });

  it("give way to a cold start where a container has died", async () => {
    const poolId = await containers.fill(2);
    const dead = await containers.ahead();
    // Neither the host nor the control plane knows of it as the creates come.
    containers.signalHost("SIGSTOP");
    await Promise.all(dead.map((id) => containers.kill(id)));
    const taken = await Promise.all([instance.create(), instance.create()]);
    containers.signalHost("SIGCONT");
    for (const sandboxId of taken) {
      expect(await shell(sandboxId, "echo alive")).toBe("alive\n");
      expect(dead).not.toContain(await containers.of(sandboxId));
    }
    await Promise.all(taken.map(end));
    await untilGone(dead);
    await containers.untilFull(poolId);
    await drop(poolId);
  });

  it.each(["host", "worker"] as const)("survive a kill -9 of the %s", async (what) => {
    const poolId = await containers.fill(3);
    const adopted = await instance.create({ timeout: 600, env: { KEPT: "yes" }, entrypoint: ["sleep", "600"] });
    await shell(adopted, "echo still here > /tmp/mark");
    const home = await containers.of(adopted);
    await containers.untilFull(poolId);
    const ready = (await containers.ahead()).filter((id) => id !== home);
    containers.crash(what);
    await expect.poll(() => shell(adopted, "cat /tmp/mark; echo $KEPT").catch(String), GONE).toBe("still here\nyes\n");
    // What is asked just after the kill may be cut off with it.
    await expect.poll(() => containers.of(adopted).catch(String), GONE).toBe(home);
    await containers.untilFull(poolId);
    // Those that nobody has taken are taken over, not made anew.
    await expect
      .poll(() => containers.ahead().then((all) => all.toSorted()), GONE)
      .toEqual([home, ...ready].toSorted());
    const next = await instance.create();
    expect(ready).toContain(await containers.of(next));

    // Once more while some are being taken, and others made.
    const creates = Array.from({ length: 4 }, () => instance.create({ timeout: 600 }).catch(() => undefined));
    await Promise.race(creates);
    containers.crash(what);
    const some = (await Promise.all(creates)).flatMap((sandboxId) => sandboxId ?? []);
    for (const sandboxId of some) await instance.until(sandboxId, ["ready"], 60_000);
    await containers.untilFull(poolId);
    const { data } = await instance.call<{ data: SandboxView[] }>("GET", "/sandboxes?state=live");
    const live = data.map(({ sandbox_id }) => sandbox_id);
    expect(live).toEqual(expect.arrayContaining([adopted, next, ...some]));
    const homes = await Promise.all(live.map((sandboxId) => containers.of(sandboxId)));
    expect(new Set(homes).size).toBe(live.length);
    expect(homes).toContain(home);
    await expect.poll(async () => (await containers.all()).size, GONE).toBe(live.length + 3);
    await Promise.all(live.map(end));
    await drop(poolId);
    await expect.poll(() => containers.all(), GONE).toEqual(new Map());
  });

  it("that are deleted leave the sandboxes that they gave, and nothing else; nor does a stop", async () => {
    const poolId = await containers.fill(3);
    const sandboxId = await instance.create({ timeout: 600 });
    const home = await containers.of(sandboxId);
    await drop(poolId);
    await expect.poll(async () => [...(await containers.all()).keys()], GONE).toEqual([home]);
    expect(await shell(sandboxId, "echo alive")).toBe("alive\n");
    expect((await instance.fetch(`/pools/${poolId}`)).status).toBe(404);
    await containers.fill(2);
    expect((await instance.call<{ data: Pool[] }>("GET", "/pools")).data).toHaveLength(1);
    await instance.interrupt();
    expect(await containers.all()).toEqual(new Map());
  });
});
