import { execFileSync, execSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../src/contract/ids.ts";
import { Engine } from "../../../src/host/docker/engine.ts";
import { LocalImages } from "../../../src/host/docker/images.ts";
import { RegistryImages } from "../../../src/host/docker/registry-images.ts";
import { StartFailure } from "../../../src/host/runtime.ts";
import { noEngine } from "../docker-host.ts";
import { digestOf, RegistryDouble, TOKEN } from "./registry-double.ts";

const hostId = newId("host");
/** Others use this engine, too. */
const REPOSITORY = `main/${hostId}`;
const imageId = newId("image");
const made: string[] = [];
const dir = mkdtempSync("/tmp/sandbar-images-");
const docker = (...args: string[]) => execFileSync("docker", args, { stdio: "pipe" }).toString().trim();
/** The names under which the engine knows what went through a gateway. */
const onLoopback = () =>
  docker("images", "--digests", "--format", "{{.Repository}}").match(new RegExp(`.*/${REPOSITORY}`));

let registry: RegistryDouble;
let engine: Engine;
let registryImages: RegistryImages;
let images: LocalImages;

/** An image of one file that nobody else has. */
function makeImage(name: string, bytes: Buffer): string {
  execSync(`d=$(mktemp -d) && cat > $d/file && tar c -C $d file | docker import - ${name}; rm -r $d`, { input: bytes });
  made.push(name);
  return name;
}

/** What a manifest names is in the registry only: an image that this machine has never seen. */
function storeImage(bytes: Buffer): { digest: string; layer: string } {
  const tar = execSync(`d=$(mktemp -d) && cat > $d/file && tar c -C $d file; rm -r $d`, {
    input: bytes,
    maxBuffer: 10_000_000,
  });
  const layer = gzipSync(tar);
  const config = Buffer.from(
    JSON.stringify({
      architecture: "amd64",
      os: "linux",
      config: {},
      rootfs: { type: "layers", diff_ids: [digestOf(tar)] },
    }),
  );
  const type = "application/vnd.docker.distribution.manifest.v2+json";
  const describe = (mediaType: string, of: Buffer) => ({ mediaType, size: of.length, digest: registry.put(of) });
  const manifest = {
    schemaVersion: 2,
    mediaType: type,
    config: describe("application/vnd.docker.container.image.v1+json", config),
    layers: [describe("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
  };
  const body = Buffer.from(JSON.stringify(manifest));
  registry.manifests.set(digestOf(body), { type, body });
  return { digest: digestOf(body), layer: digestOf(layer) };
}

describe.skipIf(noEngine !== undefined)("images of the engine and the registry", { timeout: 120_000 }, () => {
  beforeAll(async () => {
    registry = await RegistryDouble.start();
    engine = new Engine(undefined);
    registryImages = new RegistryImages(engine, registry.url);
    images = new LocalImages(engine, hostId, registryImages, dir);
  });
  afterAll(() => {
    for (const name of made) {
      try {
        docker("rmi", "-f", name);
      } catch {
        // A test has removed it.
      }
    }
    rmSync(dir, { recursive: true, force: true });
    registry.close();
  });
  const target = (tag: string) => ({ repository: REPOSITORY, tag, token: TOKEN });
  const source = (digest: string) => ({ repository: REPOSITORY, digest, token: TOKEN });
  const asked = { image: "dev/app:1" };

  it("are pushed once, and pulled again where they are gone", async () => {
    const content = randomBytes(3_000_000);
    const reference = makeImage(images.referenceOf(imageId), content);
    const before = docker("image", "inspect", "-f", "{{.Id}} {{json .RootFS}} {{.RepoTags}}", reference);
    const { uploadedBytes } = await registryImages.push(reference, target(imageId));
    // Random bytes do not shrink; with the layer goes its configuration.
    expect(uploadedBytes).toBeGreaterThan(3_000_000);
    expect(uploadedBytes).toBe(registry.sentBytes);
    expect(onLoopback()).toBeNull();
    expect(docker("image", "inspect", "-f", "{{.Id}} {{json .RootFS}} {{.RepoTags}}", reference)).toBe(before);

    expect(await registryImages.push(reference, target(imageId))).toEqual({ uploadedBytes: 0 });
    expect(registry.sentBytes).toBe(uploadedBytes);

    docker("rmi", reference);
    const digest = digestOf(registry.manifests.get(imageId)!.body);
    const found = await images.require({ image: imageId, image_source: source(digest) });
    expect(docker("image", "inspect", "-f", "{{.Id}} {{json .RootFS}} {{.RepoTags}}", reference)).toBe(before);
    expect(before).toContain(found.info.Id);
    expect(onLoopback()).toBeNull();
    expect(docker("image", "inspect", "-f", "{{.RepoDigests}}", reference)).toBe("[]");
    const requests = registry.requests.length;
    await images.require({ image: imageId, image_source: source(digest) });
    expect(registry.requests.length).toBe(requests);
    expect(await images.list()).toEqual([imageId]);
  });

  it("are pulled once, however many ask, and by anybody's name stay apart from it", async () => {
    const { digest, layer } = storeImage(randomBytes(100_000));
    const of = { ...asked, image_source: source(digest) };
    const [one, other] = await Promise.all([images.require(of), images.require(of)]);
    made.push(one.reference);
    expect(other.info.Id).toBe(one.info.Id);
    expect(registry.of("GET").filter(({ path }) => path.endsWith(layer)).length).toBe(1);
    await expect(images.require({ image: one.reference })).rejects.toThrow(/is a snapshot, or was pushed/);
  });

  it("come whole through a registry that breaks off", async () => {
    const { digest } = storeImage(randomBytes(2_000_000));
    // The manifest, the configuration, the layer.
    registry.next("GET", { kind: "broken", after: 100 }, 3);
    for (let i = 0; i < 3; i++) registry.next("PATCH", { kind: "cut", after: 100_000, keeps: true });
    const { reference } = await images.require({ ...asked, image_source: source(digest) });
    made.push(reference);
    const name = makeImage(`sandbar-test/${hostId}:cut`, randomBytes(1_000_000));
    await registryImages.push(name, target(newId("image")));
    expect(docker("image", "inspect", "-f", "{{.Os}}", reference)).toBe("linux");
  });

  it("that the registry has damaged are no start", async () => {
    const { digest, layer } = storeImage(randomBytes(50_000));
    registry.blobs.set(layer, Buffer.from(registry.blobs.get(layer)!).fill(7, 2000, 2100));
    const failure = await images.require({ ...asked, image_source: source(digest) }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(StartFailure);
    expect((failure as Error).message).toMatch(
      /^the image dev\/app:1 cannot be pulled: .*(verif|digest|checksum|corrupt)/i,
    );
    expect(onLoopback()).toBeNull();
  });

  it("that the registry has not, or does not give, are no start", async () => {
    const missing = images.require({ ...asked, image_source: source(digestOf("none")) });
    await expect(missing).rejects.toThrow(/cannot be pulled: .*There is no such manifest/);
    const { digest } = storeImage(randomBytes(10));
    const denied = images.require({ ...asked, image_source: { ...source(digest), token: "another" } });
    await expect(denied).rejects.toThrow(/cannot be pulled: .*(Send an API key|unauthorized)/);
  });

  it("that the registry refuses fail with its words, and leave no name behind", async () => {
    const name = makeImage(`sandbar-test/${hostId}:refused`, randomBytes(1000));
    registry.next("POST", { kind: "refused", status: 403, code: "DENIED", message: "The tag is not yours." }, 9);
    await expect(registryImages.push(name, target(newId("image")))).rejects.toMatchObject({
      code: "image_not_stored",
      detail: expect.stringMatching(/^The image could not be stored in the registry: .*The tag is not yours\./),
    });
    expect(onLoopback()).toBeNull();
    await expect(registryImages.push("sandbar-test/none:x", target("x"))).rejects.toMatchObject({
      code: "image_not_stored",
      detail: expect.stringContaining("No such image"),
    });
  });

  it("stay where they are on a host that knows no control plane", async () => {
    const alone = new RegistryImages(engine, undefined);
    await expect(alone.push("x:y", target("x"))).rejects.toMatchObject({ code: "backend_unavailable" });
  });
});
