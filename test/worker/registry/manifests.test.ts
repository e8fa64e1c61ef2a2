import { beforeAll, describe, expect, it } from "vitest";
import {
  digestOf,
  EMPTY_CONFIG,
  failureOf,
  MIB,
  newEnvironment,
  oci,
  OCI_INDEX,
  OCI_MANIFEST,
  type PushedImage,
  pushImage,
  putManifest,
} from "./oci-client.ts";

const DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json";

let environment: string;
let token: string;
let repository: string;
let image: PushedImage;
beforeAll(async () => {
  ({ environment, token, repository } = await newEnvironment());
  image = await pushImage(repository, token, "1");
});

const at = (reference: string, name = repository) => `/v2/${name}/manifests/${reference}`;
const indexOf = (...digests: string[]) => ({
  schemaVersion: 2,
  mediaType: OCI_INDEX,
  manifests: digests.map((digest) => ({ mediaType: OCI_MANIFEST, digest, size: 7 })),
});
const refuse = async (manifest: object, name = repository) =>
  failureOf(await putManifest(name, token, "bad", manifest));

describe("a manifest", () => {
  it("is answered byte for byte as it came, by tag and by digest", async () => {
    const text = `${JSON.stringify({ zzz: 1, ...image.manifest }, undefined, 3)}\n\n`;
    const digest = await digestOf(text);
    const put = await oci("PUT", at("odd"), { token, headers: { "content-type": OCI_MANIFEST }, body: text });
    expect([put.status, put.headers.get("location"), put.headers.get("docker-content-digest")]).toEqual([
      201,
      at(digest),
      digest,
    ]);
    for (const reference of ["odd", digest]) {
      for (const method of ["GET", "HEAD"]) {
        const response = await oci(method, at(reference), { token });
        expect(Object.fromEntries(response.headers)).toMatchObject({
          "content-type": OCI_MANIFEST,
          "content-length": String(text.length),
          "docker-content-digest": digest,
        });
        expect(await response.text()).toBe(method === "GET" ? text : "");
      }
    }
  });

  it.each([
    [DOCKER_MANIFEST, () => ({ ...image.manifest, mediaType: DOCKER_MANIFEST })],
    [DOCKER_LIST, () => ({ ...indexOf(image.digest), mediaType: DOCKER_LIST })],
    [OCI_INDEX, () => indexOf(image.digest)],
  ])("may be of the type %s", async (type, make) => {
    expect((await putManifest(repository, token, "typed", make())).status).toBe(201);
    expect((await oci("HEAD", at("typed"), { token })).headers.get("content-type")).toBe(type);
  });

  it("is known in its own repository only", async () => {
    for (const reference of ["1", image.digest]) {
      const elsewhere = await failureOf(await oci("GET", at(reference, `${environment}/other`), { token }));
      expect(elsewhere).toMatchObject({ status: 404, code: "MANIFEST_UNKNOWN" });
    }
  });

  it("replaces what its tag stood for, which stays by its digest", async () => {
    const old = await pushImage(repository, token, "moving");
    const { digest } = await pushImage(repository, token, "moving");
    expect((await oci("HEAD", at("moving"), { token })).headers.get("docker-content-digest")).toBe(digest);
    expect((await oci("HEAD", at(old.digest), { token })).status).toBe(200);
  });

  it("that names what is not there is refused, and leaves nothing", async () => {
    const missing = { ...image.manifest.config, digest: await digestOf("missing") };
    for (const part of [{ config: missing }, { layers: [missing] }]) {
      const refused = await refuse({ ...image.manifest, ...part });
      expect(refused).toMatchObject({ status: 404, code: "MANIFEST_BLOB_UNKNOWN", detail: { digest: missing.digest } });
    }
    expect(await refuse(indexOf(missing.digest))).toMatchObject({ status: 404, code: "MANIFEST_BLOB_UNKNOWN" });
    expect(await refuse(indexOf(image.digest), `${environment}/other`)).toMatchObject({
      code: "MANIFEST_BLOB_UNKNOWN",
    });
    expect((await oci("HEAD", at("bad"), { token })).status).toBe(404);
  });

  it("needs also the layers that it says to be elsewhere: who has one from another would not ask for it", async () => {
    const foreign = { mediaType: "x/foreign", digest: await digestOf("foreign"), size: 1, urls: ["https://a.test/x"] };
    const manifest = { ...image.manifest, layers: [...image.manifest.layers, foreign] };
    expect(await refuse(manifest)).toMatchObject({ status: 404, code: "MANIFEST_BLOB_UNKNOWN" });
  });

  it("that is wrong about a size is refused", async () => {
    const config = { ...image.manifest.config, size: 21 };
    expect(await refuse({ ...image.manifest, config })).toMatchObject({ status: 400, code: "SIZE_INVALID" });
  });

  it("must have the digest that it is put by", async () => {
    const digest = await digestOf("something else");
    const refused = await failureOf(await putManifest(repository, token, digest, image.manifest));
    expect(refused).toMatchObject({ status: 400, code: "DIGEST_INVALID" });
    expect((await oci("HEAD", at(digest), { token })).status).toBe(404);
  });

  it.each([
    ["nonsense", "{nonsense", OCI_MANIFEST, 400],
    ["no object", "[]", OCI_MANIFEST, 400],
    ["no manifest", "{}", OCI_MANIFEST, 400],
    [
      "another type inside",
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] }),
      OCI_MANIFEST,
      400,
    ],
    [
      "a config of another algorithm",
      JSON.stringify({
        schemaVersion: 2,
        config: { mediaType: EMPTY_CONFIG, digest: "sha512:00", size: 1 },
        layers: [],
      }),
      OCI_MANIFEST,
      400,
    ],
    ["Docker's schema 1", "{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", 415],
    ["text", "{}", "text/plain", 415],
  ])("that is %s is refused", async (_, body, type, status) => {
    const response = await oci("PUT", at("bad"), { token, headers: { "content-type": type }, body });
    expect(await failureOf(response)).toMatchObject({ status, code: "MANIFEST_INVALID" });
  });

  it("may be of 1 MiB and not of more, whether its length is said or not", async () => {
    const fill = (length: number) => {
      const text = JSON.stringify({ ...image.manifest, fill: "" });
      return text.replace('"fill":""', `"fill":"${"x".repeat(length - text.length)}"`);
    };
    const headers = { "content-type": OCI_MANIFEST };
    expect((await oci("PUT", at("large"), { token, headers, body: fill(MIB) })).status).toBe(201);
    for (const body of [fill(MIB + 1), new Blob([fill(MIB + 1)]).stream()]) {
      const refused = await oci("PUT", at("bad"), { token, headers, body });
      expect(await failureOf(refused)).toMatchObject({ status: 413, code: "SIZE_INVALID" });
    }
  });

  it("is put by a tag that is one", async () => {
    for (const tag of [".x", "a".repeat(129), "a%20b"]) {
      expect(await failureOf(await putManifest(repository, token, tag, image.manifest))).toMatchObject({ status: 400 });
    }
  });
});

describe("DELETE of a manifest", () => {
  it("by tag removes that tag alone, by digest the manifest with its tags", async () => {
    const own = await pushImage(repository, token, "a");
    await putManifest(repository, token, "b", own.manifest);
    expect((await oci("DELETE", at("a"), { token })).status).toBe(202);
    expect((await oci("HEAD", at("a"), { token })).status).toBe(404);
    expect((await oci("HEAD", at("b"), { token })).status).toBe(200);
    expect((await oci("DELETE", at(own.digest), { token })).status).toBe(202);
    for (const reference of ["b", own.digest]) {
      expect(await failureOf(await oci("DELETE", at(reference), { token }))).toMatchObject({
        code: "MANIFEST_UNKNOWN",
      });
    }
  });

  it("is refused while an index refers to it", async () => {
    const own = await pushImage(repository, token);
    await putManifest(repository, token, "index", indexOf(own.digest));
    expect(await failureOf(await oci("DELETE", at(own.digest), { token }))).toMatchObject({
      status: 405,
      code: "UNSUPPORTED",
    });
    const index = (await oci("HEAD", at("index"), { token })).headers.get("docker-content-digest")!;
    expect((await oci("DELETE", at(index), { token })).status).toBe(202);
    expect((await oci("DELETE", at(own.digest), { token })).status).toBe(202);
  });
});
