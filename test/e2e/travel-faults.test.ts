import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { settled, type ImageView } from "./image-view.ts";
import { sleep, type Instance } from "./instance.ts";
import { killWorker } from "./leftovers.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { missingForTwoHosts, TwoHosts } from "./second-host.ts";

/** How long an image may be neither there nor not. */
const SETTLED_MS = 120_000;
const MIB = 1_048_576;
const CHANGE = "head -c 209715200 /dev/urandom > /srv/change && md5sum /srv/change";

const runtimes = HOST_RUNTIMES.filter((runtime) => !missingForTwoHosts(runtime));

describe.each(runtimes)("a snapshot on the %s runtime in whose middle", (runtime) => {
  let hosts: TwoHosts;
  let instance: Instance;
  beforeAll(async () => {
    hosts = await TwoHosts.start(runtime);
    instance = hosts.instance;
  });
  afterAll(() => hosts?.remove());

  const killHost = async () => {
    await hosts.a.kill();
    await sleep(500);
    await hosts.a.start();
  };

  it.each([
    ["the Worker is killed", "worker", async () => killWorker(instance)],
    ["the host's daemon is killed", "daemon", killHost],
  ])(
    "%s is whole or failed, and ready when it is asked for again",
    async (_, prefix, kill) => {
      // One of them is on its way to the registry at that moment, the other is being kept on the host.
      const [stored, kept] = [await hosts.createOn(hosts.a, {}), await hosts.createOn(hosts.a, {})];
      const sums = new Map<string, string>();
      for (const sandboxId of [stored, kept])
        sums.set(sandboxId, (await instance.exec(sandboxId, ["sh", "-c", CHANGE], {}, 60)).stdout);
      const sentBefore = hosts.a.proxy.sentBytes;
      const asked = [snapshotOf(`${prefix}-stored`, stored)];
      await expect
        .poll(() => hosts.a.proxy.sentBytes - sentBefore, { timeout: 60_000, interval: 5 })
        .toBeGreaterThan(20 * MIB);
      asked.push(snapshotOf(`${prefix}-kept`, kept));
      for (const { find } of asked) {
        await expect.poll(find, { timeout: 10_000, interval: 10 }).toBeDefined();
        expect((await find())!.status, "it was done before it could be disturbed").toBe("pending");
      }
      await kill();
      for (const { sandboxId, ask, find, answer } of asked) {
        const image = await settled(instance, (await untilThere(find)).image_id, SETTLED_MS);
        if (image.status === "failed") expect(image.error).toMatch(/./);
        await answer;
        let again: Response | undefined;
        for (const giveUpAt = Date.now() + SETTLED_MS; Date.now() < giveUpAt; await sleep(500)) {
          again = await ask().catch(() => undefined);
          if (again && again.status < 500) break;
        }
        expect(again?.status).toBe(200);
        expect((await again!.json()) as ImageView).toMatchObject({ image_id: image.image_id, status: "ready" });
        const copy = await hosts.createOn(hosts.b, { image: image.image_id });
        expect(await instance.exec(copy, ["md5sum", "/srv/change"])).toMatchObject({ stdout: sums.get(sandboxId) });
        await Promise.all([sandboxId, copy].map((one) => instance.call("DELETE", `/sandboxes/${one}`)));
      }
    },
    300_000,
  );

  /** Asks for a snapshot, and can do so again under the same key. */
  function snapshotOf(name: string, sandboxId: string) {
    const request = { method: "POST", body: JSON.stringify({ name }), headers: { "idempotency-key": name } };
    const ask = () => instance.fetch(`/sandboxes/${sandboxId}/snapshot`, request);
    const find = async () =>
      (await instance.call<{ data: ImageView[] }>("GET", "/images")).data.find((one) => one.name === name);
    const answer = ask().then(
      ({ status }) => status,
      () => "lost",
    );
    return { sandboxId, ask, find, answer };
  }
});

/** What is known of it, once the Worker is there again. */
async function untilThere<T>(find: () => Promise<T | undefined>): Promise<T> {
  for (const giveUpAt = Date.now() + SETTLED_MS; Date.now() < giveUpAt; await sleep(200)) {
    const found = await find().catch(() => undefined);
    if (found) return found;
  }
  throw new Error("The image is not there any more.");
}
