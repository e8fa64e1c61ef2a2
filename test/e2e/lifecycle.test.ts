import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { allEvents, eventsOf } from "./event-stream.ts";
import { Instance, sleep, type SandboxView } from "./instance.ts";
import { limitNewestContainer } from "./local-containers.ts";
import { killWorker, runningContainers } from "./leftovers.ts";
import { RUNTIMES } from "./runtimes.ts";

interface Lifetime extends SandboxView {
  timeout: number;
  idle_timeout?: number;
  started_at: string;
  ready_at?: string;
  expires_at?: string;
  idle_expires_at?: string;
}

const seconds = (from: string | undefined, to: string | undefined) => (Date.parse(to!) - Date.parse(from!)) / 1000;

describe.each(RUNTIMES)("the lifecycle on the %s runtime", (runtime) => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
  });
  afterAll(() => instance?.remove());

  const wait = (sandboxId: string, until: "ready" | "ended", timeout = 30) =>
    instance.call<Lifetime>("GET", `/sandboxes/${sandboxId}/wait?until=${until}&timeout=${timeout}`);
  const patch = (sandboxId: string, body: object) => instance.call<Lifetime>("PATCH", `/sandboxes/${sandboxId}`, body);
  const read = async (sandboxId: string) => (await instance.sandbox(sandboxId)) as Lifetime;

  it.each([
    ["exits", { entrypoint: ["sh", "-c", "exit 7"] }, "finished", "exited", 7],
    ["exits with 0", { entrypoint: ["true"] }, "finished", "exited", 0],
    ["is killed by a signal", { entrypoint: ["sh", "-c", "kill -TERM $$"] }, "finished", "signaled", 143],
    ["kills itself", { entrypoint: ["sh", "-c", "kill -KILL $$"] }, "finished", "signaled", 137],
    ["lives too long", { timeout: 1 }, "terminated", "timeout", 124],
    ["idles", { idle_timeout: 1 }, "terminated", "idle_timeout", 137],
    [
      "idles while its entrypoint works",
      { idle_timeout: 1, entrypoint: ["sleep", "60"] },
      "terminated",
      "idle_timeout",
      137,
    ],
    ["has no such entrypoint", { entrypoint: ["/no/such/program"] }, "terminated", "start_failed", undefined],
    ["has an entrypoint that cannot be run", { entrypoint: ["/etc/passwd"] }, "terminated", "start_failed", undefined],
  ])("of a sandbox that %s ends so", async (_, create, state, finishReason, returncode) => {
    const sandboxId = await instance.create(create);
    const ended = await wait(sandboxId, "ended");
    expect([ended.state, ended.finish_reason, ended.returncode]).toEqual([state, finishReason, returncode]);
    if (finishReason === "start_failed")
      expect(ended.error).toContain((create as { entrypoint: string[] }).entrypoint[0]);
    else expect(ended.error).toBeUndefined();
    const events = await allEvents(await instance.fetch(`/sandboxes/${sandboxId}/events`));
    const ends = events.filter(({ event }) => event === "finished" || event === "terminated");
    expect(ends).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ event: state, data: { finish_reason: finishReason } });
    expect(
      await instance.fetch(`/sandboxes/${sandboxId}/exec`, { method: "POST", body: '{"command":["true"]}' }),
    ).toMatchObject({
      status: 409,
    });
  });

  it("of a sandbox that is terminated, at whatever moment of its start, leaves nothing", async () => {
    const sandboxes = await Promise.all(
      Array.from({ length: 12 }, async (_, index) => {
        const sandboxId = await instance.create();
        await sleep(index * 40);
        await instance.call("DELETE", `/sandboxes/${sandboxId}`);
        const late = await instance.fetch(`/sandboxes/${sandboxId}/exec`, {
          method: "POST",
          body: '{"command":["true"]}',
        });
        expect(late.status).toBe(409);
        return sandboxId;
      }),
    );
    for (const sandboxId of sandboxes) {
      expect(await read(sandboxId)).toMatchObject({
        state: "terminated",
        finish_reason: "terminated",
        returncode: 137,
      });
      await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    }
    if (runtime === "cloudflare") return;
    await expect
      .poll(async () => (await runningContainers(instance)).filter((id) => sandboxes.includes(id)), { timeout: 15_000 })
      .toEqual([]);
  });

  it("is ready when its probe succeeds and not before, by a port and by a program", async () => {
    const serve =
      "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 8099, Listen => 5) or die; sleep 600'";
    const [byPort, byProgram, never] = await Promise.all([
      instance.create({
        readiness_probe: { tcp: { port: 8099 } },
        entrypoint: ["sh", "-c", `sleep 1.5; exec ${serve}`],
      }),
      instance.create({ readiness_probe: { exec: { command: ["test", "-e", "/tmp/go"] } } }),
      instance.create({ readiness_probe: { exec: { command: ["false"] } }, idle_timeout: 4 }),
    ]);
    const early = await wait(byProgram, "ready", 1);
    expect(early.ready_at).toBeUndefined();
    await instance.until(byProgram, ["started"]);
    const [ready] = await Promise.all([
      wait(byPort, "ready"),
      sleep(500).then(() => instance.exec(byProgram, ["touch", "/tmp/go"])),
    ]);
    expect(ready.state).toBe("ready");
    expect(seconds(ready.started_at, ready.ready_at)).toBeGreaterThan(1.4);
    expect((await wait(byProgram, "ready")).state).toBe("ready");
    expect(await instance.call("GET", `/sandboxes/${byProgram}/processes`)).toMatchObject({
      data: [{ command: ["touch", "/tmp/go"] }],
    });
    expect(await wait(never, "ended")).toMatchObject({ finish_reason: "idle_timeout" });
    for (const id of [byPort, byProgram]) await instance.call("DELETE", `/sandboxes/${id}`);
  });

  it("has its lifetime and idle time extended and shortened, and tells them truly", async () => {
    const sandboxId = await instance.create({ timeout: 4, idle_timeout: 600 });
    const started = await wait(sandboxId, "ready");
    expect(seconds(started.started_at, started.expires_at)).toBe(4);
    expect(seconds(new Date().toISOString(), started.idle_expires_at)).toBeGreaterThan(597);
    const longer = await patch(sandboxId, { timeout: 600 });
    expect(seconds(longer.started_at, longer.expires_at)).toBe(600);
    await sleep(5000);
    const { process_id } = await instance.exec(sandboxId, ["sleep", "60"], {}, 0);
    expect(await read(sandboxId)).not.toHaveProperty("idle_expires_at");
    await instance.call("DELETE", `/sandboxes/${sandboxId}/processes/${process_id}`);
    await expect.poll(() => read(sandboxId), { timeout: 5000 }).toHaveProperty("idle_expires_at");
    await patch(sandboxId, { timeout: 1 });
    expect(await wait(sandboxId, "ended", 10)).toMatchObject({ finish_reason: "timeout", returncode: 124 });
  });

  it("is followed over a kill -9 of the Worker, from the last event that came", async () => {
    const sandboxId = await instance.create({ timeout: 600 });
    await wait(sandboxId, "ready");
    const seen: string[] = [];
    let last = "0";
    const follow = async () => {
      for await (const { id, event } of eventsOf(
        await instance.fetch(`/sandboxes/${sandboxId}/events?last_event_id=${last}`),
      )) {
        seen.push(event);
        last = id!;
      }
    };
    const cut = follow().catch(() => "cut");
    await sleep(500);
    killWorker(instance);
    await cut;
    await expect
      .poll(
        () =>
          patch(sandboxId, { tags: { after: "kill" } }).then(
            () => true,
            () => false,
          ),
        { timeout: 20_000 },
      )
      .toBe(true);
    const rest = follow();
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
    await rest;
    expect(seen).toEqual(["created", "scheduled", "started", "ready", "updated", "terminated"]);
  });
});

describe.each(RUNTIMES)("memory on the %s runtime", (runtime) => {
  it("runs out for a sandbox that ends so, and not for one that is killed or whose process it was", async (test) => {
    const instance = await Instance.start(runtime);
    try {
      const probe = await instance.fetch("/sandboxes", { method: "POST", body: '{"memory": 64}' });
      if (probe.status === 422) test.skip("this machine cannot limit memory");
      const { sandbox_id: probed } = (await probe.json()) as SandboxView;
      await instance.until(probed, ["ready"]);
      await instance.call("DELETE", `/sandboxes/${probed}`);
      const endOf = async (script: string) => {
        const entrypoint = ["sh", "-c", `until [ -e /tmp/go ]; do sleep 0.05; done; ${script}`];
        const id = await instance.create({ entrypoint, memory: 64 });
        // The local platform sets no limits; the real one has a machine of the size for each.
        if (runtime === "cloudflare") await limitNewestContainer(instance, id, 64 * 1_048_576);
        await instance.exec(id, ["touch", "/tmp/go"]);
        const ended = await instance.call<SandboxView>("GET", `/sandboxes/${id}/wait`);
        return [ended.state, ended.finish_reason, ended.returncode];
      };
      const hungry = `perl -e '$x = "a" x 300_000_000; sleep 5'`;
      expect(await endOf(`exec ${hungry}`)).toEqual(["finished", "oom", 137]);
      expect(await endOf("kill -9 $$")).toEqual(["finished", "signaled", 137]);
      expect(await endOf(`${hungry}; exit 5`)).toEqual(["finished", "exited", 5]);
    } finally {
      await instance.remove();
    }
  });
});
