import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Volume } from "../../src/contract/volume.ts";
import type { VolumeCommit } from "../../src/contract/volume-mount.ts";
import { snapshot } from "./image-view.ts";
import { sleep, type Instance } from "./instance.ts";
import { killWorker } from "./leftovers.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { missingForTwoHosts, TwoHosts, type JoinedHost } from "./second-host.ts";

const MIB = 1_048_576;
const FILES = 8;
/** A version is a directory that is there at once. What it holds does not compress. */
const write = (version: number) =>
  `mkdir /v/t && for i in $(seq ${FILES}); do head -c ${8 * MIB} /dev/urandom > /v/t/$i; done; ` +
  `cd /v/t && md5sum [0-9] > sums && mv /v/t /v/version-${version}`;
const look = (version: number) =>
  `[ -d /v/version-${version} ] || { echo none; exit; }; cd /v/version-${version} && md5sum -c --quiet sums && echo whole`;

const runtimes = HOST_RUNTIMES.filter((runtime) => !missingForTwoHosts(runtime));

describe.each(runtimes)("a volume on two hosts of the %s runtime", { timeout: 240_000 }, (runtime) => {
  let hosts: TwoHosts;
  let instance: Instance;
  let image: string;
  beforeAll(async () => {
    hosts = await TwoHosts.start(runtime);
    instance = hosts.instance;
    // The engine of the second host has no image of its own.
    const first = await hosts.createOn(hosts.a, {});
    image = (await snapshot(instance, first)).image_id;
    await instance.call("DELETE", `/sandboxes/${first}`);
    await instance.call<Volume>("POST", "/volumes", { name: "shared" });
  }, 300_000);
  afterAll(() => hosts?.remove());

  const createOn = (host: JoinedHost) =>
    hosts.createOn(host, { image, volumes: { "/v": { volume_id: "shared" } }, timeout: 900 });
  const sh = async (id: string, script: string) =>
    (await instance.exec(id, ["sh", "-c", script], {}, 60)).stdout.trim();
  const askCommit = (id: string) => instance.fetch(`/sandboxes/${id}/volumes/commit`, { method: "POST" });
  /** Asks until it is done, as a client does that is told what is not durable yet. */
  const committed = async (id: string) => {
    for (const giveUpAt = Date.now() + 120_000; ; await sleep(500)) {
      const answer = await askCommit(id).catch(() => undefined);
      if (answer?.ok) return ((await answer.json()) as { data: VolumeCommit[] }).data[0]!;
      if (Date.now() > giveUpAt) throw new Error(`never committed: ${answer?.status} ${await answer?.text()}`);
    }
  };
  const killHost = async () => {
    await hosts.a.kill();
    await sleep(500);
    await hosts.a.start();
  };

  it("is seen by the other host once it is committed, and unchanged content is not sent again", async () => {
    const writer = await createOn(hosts.a);
    await sh(writer, write(1));
    await committed(writer);
    const reader = await createOn(hosts.b);
    expect(await sh(reader, look(1))).toBe("whole");
    await sh(reader, "cp /v/version-1/1 /v/copy && echo from-b > /v/b");
    const sent = await hosts.b.proxy.during(() => committed(reader));
    expect(sent).toBeLessThan(MIB / 4);
    await instance.call("POST", `/sandboxes/${writer}/volumes/reload`);
    expect(await sh(writer, "cmp /v/version-1/1 /v/copy && cat /v/b")).toBe("from-b");
    await Promise.all([writer, reader].map((id) => instance.call("DELETE", `/sandboxes/${id}`)));
  });

  it.each([
    ["the Worker is killed", 2, async () => killWorker(instance)],
    ["the host's daemon is killed", 3, killHost],
  ])(
    "is old or new where %s in the middle of a commit, and new once that is asked for again",
    async (_, version, kill) => {
      const writer = await createOn(hosts.a);
      await sh(writer, write(version));
      const sentBefore = hosts.a.proxy.sentBytes;
      const asked = askCommit(writer).catch(() => undefined);
      await expect
        .poll(() => hosts.a.proxy.sentBytes - sentBefore, { timeout: 60_000, interval: 5 })
        .toBeGreaterThan(8 * MIB);
      await kill();
      await asked;
      // What another sees meanwhile is all of it or nothing.
      await expect
        .poll(
          () =>
            instance.fetch("/hosts").then(
              ({ status }) => status,
              () => 0,
            ),
          { timeout: 60_000 },
        )
        .toBe(200);
      const meanwhile = await createOn(hosts.b);
      expect(["none", "whole"]).toContain(await sh(meanwhile, look(version)));
      await committed(writer);
      await expect
        .poll(async () => (await instance.fetch(`/sandboxes/${meanwhile}/volumes/reload`, { method: "POST" })).status, {
          timeout: 60_000,
        })
        .toBe(200);
      expect(await sh(meanwhile, look(version))).toBe("whole");
      await Promise.all([writer, meanwhile].map((id) => instance.call("DELETE", `/sandboxes/${id}`)));
    },
  );

  it("gets what a sandbox wrote last also where its host's daemon is killed as it ends", async () => {
    const writer = await createOn(hosts.a);
    await sh(writer, write(4));
    const sentBefore = hosts.a.proxy.sentBytes;
    const ended = instance.fetch(`/sandboxes/${writer}`, { method: "DELETE" }).catch(() => undefined);
    await expect
      .poll(() => hosts.a.proxy.sentBytes - sentBefore, { timeout: 60_000, interval: 5 })
      .toBeGreaterThan(MIB);
    await killHost();
    await ended;
    const reader = await createOn(hosts.b);
    const seen = async () => {
      await instance.fetch(`/sandboxes/${reader}/volumes/reload`, { method: "POST" });
      return sh(reader, look(4));
    };
    await expect.poll(seen, { timeout: 90_000, interval: 1000 }).toBe("whole");
    await instance.call("DELETE", `/sandboxes/${reader}`);
  });
});
