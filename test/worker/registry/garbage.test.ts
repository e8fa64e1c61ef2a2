import { env, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ImageCatalog, type ImageRow } from "../../../src/catalog/images.ts";
import { newId } from "../../../src/contract/ids.ts";
import { signGrant, snapshotsOf } from "../../../src/contract/registry.ts";
import { openRegistry } from "../../../src/registry/client.ts";
import { graceOf } from "../../../src/registry/grace.ts";
import {
  ahead,
  beginUpload,
  keysOf,
  newEnvironment,
  oci,
  PART,
  pushBlob,
  pushImage,
  randomBytes,
  rowsOf,
  sweepAfter,
} from "./oci-client.ts";

const DAY_MS = 86_400_000;
const LATER_MS = DAY_MS + 60_000;

let environment: string;
let token: string;
let repository: string;
beforeEach(async () => ({ environment, token, repository } = await newEnvironment()));

const statusOf = async (digest: string, method = "HEAD") => {
  const response = await oci(method, `/v2/${repository}/blobs/${digest}`, { token });
  await response.arrayBuffer();
  return response.status;
};
/** How old the blobs of the registry are, without asking for one. */
const digests = () =>
  runInDurableObject(env.REGISTRIES.get(env.REGISTRIES.idFromName(environment)), (_, { storage }) =>
    storage.sql
      .exec<{ digest: string }>("SELECT digest FROM blobs")
      .toArray()
      .map(({ digest }) => digest),
  );

describe("a blob", () => {
  it("that no manifest refers to goes once the grace is over, and not before; one that is referred to stays", async () => {
    const lost = await pushBlob(repository, token, randomBytes(10));
    const { manifest } = await pushImage(repository, token);
    await sweepAfter(environment, DAY_MS - 60_000);
    expect(await digests()).toHaveLength(3);
    await sweepAfter(environment, LATER_MS);
    expect(await digests()).toEqual(
      expect.arrayContaining([manifest.config.digest, ...manifest.layers.map(({ digest }) => digest)]),
    );
    expect(await keysOf(environment)).toHaveLength(2);
    expect(await statusOf(lost)).toBe(404);
    expect(await statusOf(manifest.config.digest, "GET")).toBe(200);
  });

  it.each([
    ["HEAD", (digest: string) => statusOf(digest)],
    ["GET", (digest: string) => statusOf(digest, "GET")],
    [
      "a mount",
      async (mount: string) =>
        (await oci("POST", `/v2/${repository}/blobs/uploads/`, { token, query: { mount } })).status,
    ],
    [
      "a push of the same",
      async (_: string, bytes: Uint8Array<ArrayBuffer>) => {
        await pushBlob(repository, token, bytes);
        return 201;
      },
    ],
  ])("is protected for the grace by %s", async (_, tell) => {
    const bytes = randomBytes(10);
    const digest = await pushBlob(repository, token, bytes);
    expect([200, 201]).toContain(await ahead(DAY_MS / 2, () => tell(digest, bytes)));
    await sweepAfter(environment, LATER_MS);
    expect(await digests()).toEqual([digest]);
    await sweepAfter(environment, DAY_MS / 2 + LATER_MS);
    expect(await digests()).toEqual([]);
  });

  it("is not written to at every question", async () => {
    const digest = await pushBlob(repository, token, randomBytes(10));
    const touchedAt = () =>
      runInDurableObject(
        env.REGISTRIES.get(env.REGISTRIES.idFromName(environment)),
        (_, { storage }) => storage.sql.exec<{ touched_at: number }>("SELECT touched_at FROM blobs").one().touched_at,
      );
    const before = await touchedAt();
    await ahead(DAY_MS / 20, () => statusOf(digest));
    expect(await touchedAt()).toBe(before);
    await ahead(DAY_MS / 5, () => statusOf(digest));
    expect(await touchedAt()).toBeGreaterThan(before);
  });

  it("of a deleted manifest is there for the grace: a pull goes on", async () => {
    const { digest, manifest } = await pushImage(repository, token, "1");
    const gone = await ahead(5 * DAY_MS, () => oci("DELETE", `/v2/${repository}/manifests/${digest}`, { token }));
    expect(gone.status).toBe(202);
    await sweepAfter(environment, 5 * DAY_MS + 3_600_000);
    expect(await digests()).toHaveLength(2);
    expect(await statusOf(manifest.layers[0]!.digest, "GET")).toBe(200);
    await sweepAfter(environment, 5 * DAY_MS + LATER_MS);
    expect(await digests()).toEqual([]);
    expect(await keysOf(environment)).toEqual([]);
  });

  it("that is pushed anew while it is swept is there", async () => {
    const bytes = randomBytes(1000);
    for (let round = 0; round < 5; round += 1) {
      const digest = await pushBlob(repository, token, bytes);
      const [, pushed] = await Promise.all([
        sweepAfter(environment, LATER_MS),
        pushBlob(repository, token, bytes).then((again) => statusOf(again, "GET")),
      ]);
      expect([digest, pushed]).toEqual([digest, 200]);
      expect(await statusOf(digest, "GET")).toBe(200);
    }
    await vi.waitFor(async () => expect(await keysOf(environment)).toHaveLength(1));
  });
});

describe("an upload", () => {
  it("that nobody goes on with goes, with all that it has in the bucket", async () => {
    const parts = await beginUpload(repository, token);
    await oci("PATCH", parts, { token, body: randomBytes(PART + 10) });
    const small = await beginUpload(repository, token);
    await oci("PATCH", small, { token, body: randomBytes(10) });
    await sweepAfter(environment, DAY_MS - 60_000);
    expect((await oci("GET", parts, { token })).status).toBe(204);
    expect(await keysOf(environment)).toHaveLength(2);
    await sweepAfter(environment, LATER_MS);
    expect((await oci("GET", parts, { token })).status).toBe(404);
    expect(await keysOf(environment)).toEqual([]);
    expect(await rowsOf(environment)).toMatchObject({ uploads: 0, upload_parts: 0, garbage: 0 });
  });
});

describe("a snapshot", () => {
  const addImage = (imageId: string, expiresAt: number | null) =>
    new ImageCatalog(env.DB).add({
      imageId,
      environment,
      sandboxId: newId("sandbox"),
      name: null,
      status: "ready",
      error: null,
      parent: null,
      backend: "docker",
      runtime: "docker",
      hostId: null,
      snapshotId: null,
      digest: null,
      size: 1,
      createdAt: Date.now(),
      expiresAt,
    } as ImageRow);
  const pushSnapshot = async (imageId: string) => {
    const name = snapshotsOf(environment);
    const grant = { access: "push", environment, repository: name, tag: imageId } as const;
    return pushImage(name, await signGrant(env.SIGNING_SECRET, grant, 60), imageId);
  };

  it("goes when its time is over: tag, manifest, and the catalog's row; others stay", async () => {
    const [over, kept] = [newId("image"), newId("image")];
    for (const imageId of [over, kept]) await pushSnapshot(imageId);
    await addImage(over, Date.now() + 1000);
    await addImage(kept, Date.now() + DAY_MS);
    await sweepAfter(environment, 2000);
    const registry = openRegistry(env, environment);
    expect(await registry.resolve(snapshotsOf(environment), { tag: over })).toBeUndefined();
    expect(await registry.resolve(snapshotsOf(environment), { tag: kept })).toBeDefined();
    expect(await rowsOf(environment)).toMatchObject({ manifests: 1, tags: 1, blobs: 4 });
    expect(await new ImageCatalog(env.DB).expired(environment, Date.now() + 2000, 10)).toEqual([]);
    expect(await new ImageCatalog(env.DB).expired(environment, Date.now() + 2 * DAY_MS, 10)).toEqual([kept]);
  });

  it("whose tag came to name another leaves nothing for good; what users push without a tag stays", async () => {
    const imageId = newId("image");
    await pushSnapshot(imageId);
    const { digest } = await pushSnapshot(imageId);
    const untagged = await pushImage(repository, token);
    await sweepAfter(environment, LATER_MS);
    const registry = openRegistry(env, environment);
    expect(await registry.resolve(snapshotsOf(environment), { tag: imageId })).toMatchObject({ digest });
    expect(await registry.resolve(repository, { digest: untagged.digest })).toBeDefined();
    expect(await rowsOf(environment)).toMatchObject({ manifests: 2 });
  });
});

it("the registry sweeps as long as it holds anything, and then no more", async () => {
  await pushBlob(repository, token, randomBytes(10));
  for (const ms of [1000, 2000, LATER_MS]) expect(await sweepAfter(environment, ms)).toBe(true);
  expect(await sweepAfter(environment, LATER_MS)).toBe(false);
});

it("the grace is what the deployment sets, in whole seconds", () => {
  const said = vi.spyOn(console, "error").mockReturnValue(undefined);
  expect(graceOf({})).toEqual({ keptMs: DAY_MS, touchedEveryMs: DAY_MS / 10, sweptEveryMs: 3_600_000 });
  expect(graceOf({ REGISTRY_GRACE_SECONDS: "1" })).toEqual({ keptMs: 1000, touchedEveryMs: 100, sweptEveryMs: 1000 });
  expect(said).not.toHaveBeenCalled();
  for (const text of ["0", "a day", "-1"]) expect(graceOf({ REGISTRY_GRACE_SECONDS: text }).keptMs).toBe(DAY_MS);
  expect(said).toHaveBeenCalledTimes(3);
  said.mockRestore();
});
