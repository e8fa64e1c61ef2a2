import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { image, settled, snapshot, type ImageView } from "./image-view.ts";
import type { Instance, SandboxView } from "./instance.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { missingForTwoHosts, TwoHosts, type JoinedHost } from "./second-host.ts";

const MIB = 1_048_576;
/** What a host sends besides the layers: manifests, configurations, reports. */
const MAX_REST = MIB;

for (const runtime of HOST_RUNTIMES) {
  const missing = missingForTwoHosts(runtime);
  if (missing) console.warn(`No snapshot travels between hosts on ${runtime}: ${missing}.`);
}

const runtimes = HOST_RUNTIMES.filter((runtime) => !missingForTwoHosts(runtime));

describe.each(runtimes)("snapshots on two hosts of the %s runtime", (runtime) => {
  let hosts: TwoHosts;
  let instance: Instance;
  let a: JoinedHost;
  let b: JoinedHost;
  let brief: ImageView;
  let briefMadeAt: number;
  beforeAll(async () => {
    hosts = await TwoHosts.start(runtime);
    ({ instance, a, b } = hosts);
    const sandboxId = await hosts.createOn(a, {});
    briefMadeAt = Date.now();
    brief = await snapshot(instance, sandboxId, { ttl: 60 });
    await instance.call("DELETE", `/sandboxes/${sandboxId}`);
  });
  afterAll(() => hosts?.remove());

  const sh = async (sandboxId: string, script: string) => {
    const { stdout, stderr, returncode } = await instance.exec(sandboxId, ["sh", "-c", script]);
    if (returncode !== 0) throw new Error(`${script}: ${returncode} ${stderr}`);
    return stdout;
  };
  const end = (...sandboxIds: string[]) =>
    Promise.all(sandboxIds.map((sandboxId) => instance.call("DELETE", `/sandboxes/${sandboxId}`)));
  const ended = (sandboxId: string) =>
    instance.call<SandboxView & { image_id?: string }>("GET", `/sandboxes/${sandboxId}/wait?until=ended&timeout=60`);
  /** What a sandbox that starts from the image prints, there. */
  const startsOn = async (host: JoinedHost, imageId: string, script: string) => {
    const sandboxId = await hosts.createOn(host, { image: imageId });
    const stdout = await sh(sandboxId, script);
    await end(sandboxId);
    return stdout;
  };

  it("go from host to host and back, each with its own layer only", async () => {
    const first = await hosts.createOn(a, {});
    await sh(first, "mkdir /srv/kept && head -c 8388608 /dev/urandom > /srv/kept/first && echo one > /srv/kept/log");
    const sum = await sh(first, "md5sum /srv/kept/first");
    let imageA!: ImageView;
    const sentForFirst = await a.proxy.during(
      async () => (imageA = await snapshot(instance, first, { name: "gen-1" })),
    );
    expect(imageA).toMatchObject({ status: "ready", name: "gen-1", parent: (await instance.sandbox(first)).image });
    expect(sentForFirst).toBeGreaterThan(8 * MIB);
    expect(imageA.size).toBeGreaterThan(8 * MIB);

    await a.kill();
    const second = await hosts.createOn(b, { image: imageA.image_id });
    expect(await sh(second, "cat /srv/kept/log; md5sum /srv/kept/first")).toBe(`one\n${sum}`);
    await sh(second, "echo two >> /srv/kept/log && rm /srv/kept/first && echo new > /srv/kept/second");
    let imageB!: ImageView;
    const sentForSecond = await b.proxy.during(async () => (imageB = await snapshot(instance, second)));
    expect(imageB).toMatchObject({ status: "ready", parent: imageA.image_id });
    expect(sentForSecond).toBeLessThan(MAX_REST);
    await end(second);

    const look = "cat /srv/kept/log; ls /srv/kept";
    const third = await hosts.createOn(a, { image: imageB.image_id });
    expect(await sh(third, look)).toBe("one\ntwo\nlog\nsecond\n");
    const imageC = await snapshot(instance, third);
    expect(imageC.parent).toBe(imageB.image_id);
    // The sandbox that the first was made of has run all the time, on a host that was killed.
    expect(await sh(first, "cat /srv/kept/log")).toBe("one\n");
    await end(first, third);
    await b.start();
    expect(await startsOn(b, imageC.image_id, look)).toBe("one\ntwo\nlog\nsecond\n");
  });

  it("are forked where they were made, and elsewhere from the same image", async () => {
    const source = await hosts.createOn(a, {});
    await sh(source, "echo shared > /srv/shared");
    const fork = await instance.call<{ image_id: string; data: SandboxView[] }>("POST", `/sandboxes/${source}/fork`, {
      count: 3,
    });
    const forks = fork.data.map(({ sandbox_id }) => sandbox_id);
    expect(new Set(forks).size).toBe(3);
    await Promise.all(forks.map((sandboxId) => instance.until(sandboxId, ["ready"])));
    await a.kill();
    const elsewhere = await Promise.all([1, 2].map(() => hosts.instance.create({ image: fork.image_id })));
    await Promise.all(elsewhere.map((sandboxId) => instance.until(sandboxId, ["ready"], 60_000)));
    await a.start();
    const all = [...forks, ...elsewhere];
    await Promise.all(all.map((sandboxId, index) => sh(sandboxId, `echo ${index} >> /srv/shared`)));
    const seen = await Promise.all(all.map((sandboxId) => sh(sandboxId, "cat /srv/shared")));
    expect(seen).toEqual(all.map((_, index) => `shared\n${index}\n`));
    expect(await sh(source, "cat /srv/shared")).toBe("shared\n");
    await end(source, ...all);
  });

  it("are made at the end of a sandbox by its timeout and its idle time, and of no other", async () => {
    const write = async (create: object) => {
      const sandboxId = await hosts.createOn(a, { snapshot_on_end: true, ...create });
      await sh(sandboxId, "echo last > /srv/last");
      return sandboxId;
    };
    const byIdle = await write({ idle_timeout: 3 });
    const byTimeout = await write({ timeout: 8 });
    const byHand = await write({});
    await end(byHand);
    expect(await instance.sandbox(byHand)).not.toHaveProperty("image_id");
    for (const [sandboxId, finish_reason] of [
      [byIdle, "idle_timeout"],
      [byTimeout, "timeout"],
    ] as const) {
      const sandbox = await ended(sandboxId);
      expect(sandbox).toMatchObject({ finish_reason, image_id: expect.stringMatching(/^im-/) });
      expect(await settled(instance, sandbox.image_id!)).toMatchObject({ status: "ready" });
      expect(await startsOn(b, sandbox.image_id!, "cat /srv/last")).toBe("last\n");
    }
  });

  it("are made at the end although the host's daemon is away at that moment", async () => {
    const sandboxId = await hosts.createOn(a, { snapshot_on_end: true, timeout: 5 });
    await sh(sandboxId, "echo last > /srv/last");
    await a.kill();
    const sandbox = await ended(sandboxId);
    expect(sandbox.finish_reason).toBe("timeout");
    await a.start();
    const made = await settled(instance, sandbox.image_id!);
    expect(made, made.error).toMatchObject({ status: "ready" });
    expect(await startsOn(b, sandbox.image_id!, "cat /srv/last")).toBe("last\n");
  });

  it("answer at once when that is preferred, and start once they are ready", async () => {
    const sandboxId = await hosts.createOn(a, {});
    await sh(sandboxId, "head -c 50000000 /dev/urandom > /srv/large");
    const path = `/sandboxes/${sandboxId}/snapshot`;
    const response = await instance.fetch(path, { method: "POST", headers: { prefer: "respond-async" } });
    const pending = (await response.json()) as ImageView;
    expect([response.status, response.headers.get("preference-applied"), pending.status]).toEqual([
      202,
      "respond-async",
      "pending",
    ]);
    expect(response.headers.get("location")).toBe(`/v1/images/${pending.image_id}`);
    const early = await instance.fetch("/sandboxes", { method: "POST", body: `{"image":"${pending.image_id}"}` });
    expect([early.status, ((await early.json()) as { code: string }).code]).toEqual([409, "image_not_ready"]);
    expect(await settled(instance, pending.image_id)).toMatchObject({ status: "ready" });
    const sum = await sh(sandboxId, "md5sum /srv/large");
    expect(await startsOn(b, pending.image_id, "md5sum /srv/large")).toBe(sum);
    await end(sandboxId);
  });

  it("are gone everywhere once they are deleted, but for what stands on them", async () => {
    const source = await hosts.createOn(a, {});
    await sh(source, "echo below > /srv/below");
    const deleted = await snapshot(instance, source);
    const running = await hosts.createOn(a, { image: deleted.image_id });
    await sh(running, "echo above > /srv/above");
    expect(await startsOn(b, deleted.image_id, "cat /srv/below")).toBe("below\n");
    const above = await snapshot(instance, running);
    expect(await a.images()).toContain(deleted.image_id);
    await instance.call("DELETE", `/images/${deleted.image_id}`);
    // The host that made it is told at once.
    expect(await a.images()).not.toContain(deleted.image_id);
    expect(await a.images()).toContain(above.image_id);
    const body = JSON.stringify({ image: deleted.image_id });
    expect(await instance.fetch("/sandboxes", { method: "POST", body })).toMatchObject({ status: 404 });
    // A daemon tells of its images when it starts, and then once a minute.
    await b.kill();
    await b.start();
    await expect.poll(() => b.output, { timeout: 20_000 }).toContain(`removing ${deleted.image_id}: it was deleted`);
    const look = "cat /srv/below /srv/above";
    expect(await sh(running, look)).toBe("below\nabove\n");
    expect(await startsOn(b, above.image_id, look)).toBe("below\nabove\n");
    expect(await startsOn(a, above.image_id, look)).toBe("below\nabove\n");
    await end(source, running);
  });

  it("are gone once their time is over", async () => {
    const status = async () => (await instance.fetch(`/images/${brief.image_id}`)).status;
    if (Date.now() < briefMadeAt + 50_000) expect(await image(instance, brief.image_id)).toEqual(brief);
    await expect.poll(status, { timeout: 75_000, interval: 500 }).toBe(404);
    expect(Date.now()).toBeGreaterThan(briefMadeAt + 59_000);
    const body = JSON.stringify({ image: brief.image_id });
    expect(await instance.fetch("/sandboxes", { method: "POST", body })).toMatchObject({ status: 404 });
  });
});
