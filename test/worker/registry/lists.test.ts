import { beforeAll, describe, expect, it } from "vitest";
import { readManifest } from "../../../src/registry/manifest.ts";
import { openRegistry } from "../../../src/registry/client.ts";
import { BASE_ANNOTATION, HOST_BASE } from "../../../src/contract/registry.ts";
import { env } from "cloudflare:test";
import {
  failureOf,
  newEnvironment,
  oci,
  OCI_INDEX,
  OCI_MANIFEST,
  pushImage,
  putManifest,
  rowsOf,
  sweepAfter,
} from "./oci-client.ts";

let environment: string;
let token: string;
let repository: string;
beforeAll(async () => ({ environment, token, repository } = await newEnvironment()));

/** Follows the links from page to page. */
async function pages(path: string, field: "tags" | "repositories"): Promise<string[][]> {
  const found: string[][] = [];
  for (let next: string | undefined = path; next;) {
    const response: Response = await oci("GET", next, { token });
    expect(response.status).toBe(200);
    found.push(((await response.json()) as Record<string, string[]>)[field]!);
    next = /^<([^>]+)>; rel="next"$/.exec(response.headers.get("link") ?? "")?.[1];
  }
  return found;
}

describe("the tags", () => {
  beforeAll(async () => {
    const { manifest } = await pushImage(repository, token, "b");
    for (const tag of ["a", "d", "C", "c"]) await putManifest(repository, token, tag, manifest);
  });

  it("come in order, all of them or page by page", async () => {
    const path = `/v2/${repository}/tags/list`;
    expect(await (await oci("GET", path, { token })).json()).toEqual({
      name: repository,
      tags: ["C", "a", "b", "c", "d"],
    });
    expect(await pages(`${path}?n=2`, "tags")).toEqual([["C", "a"], ["b", "c"], ["d"]]);
    expect(await pages(`${path}?n=5`, "tags")).toEqual([["C", "a", "b", "c", "d"]]);
    expect(await pages(`${path}?last=b`, "tags")).toEqual([["c", "d"]]);
    expect(await pages(`${path}?n=0`, "tags")).toEqual([[]]);
    expect(await failureOf(await oci("GET", `${path}?n=x`, { token }))).toMatchObject({ status: 400 });
  });

  it("are those of a repository that is there", async () => {
    const none = await oci("GET", `/v2/${environment}/none/tags/list`, { token });
    expect(await failureOf(none)).toMatchObject({ status: 404, code: "NAME_UNKNOWN" });
    await pushImage(`${environment}/untagged`, token);
    expect(await pages(`/v2/${environment}/untagged/tags/list`, "tags")).toEqual([[]]);
  });
});

it("the catalog lists the environment's repositories, page by page", async () => {
  const own = await newEnvironment();
  const names = ["a", "b/c", "d"].map((name) => `${own.environment}/${name}`);
  for (const name of names) await pushImage(name, own.token, "1");
  token = own.token;
  expect(await pages("/v2/_catalog", "repositories")).toEqual([names]);
  expect(await pages("/v2/_catalog?n=2", "repositories")).toEqual([names.slice(0, 2), names.slice(2)]);
});

describe("what refers to a manifest", () => {
  it("is listed as an index, all of it or of one type", async () => {
    const own = await newEnvironment();
    const { digest, manifest } = await pushImage(own.repository, own.token, "1");
    const subject = { mediaType: OCI_MANIFEST, digest, size: JSON.stringify(manifest).length };
    const path = `/v2/${own.repository}/referrers/${digest}`;
    const list = async (query = "") => {
      const response = await oci("GET", path + query, { token: own.token });
      expect([response.status, response.headers.get("content-type")]).toEqual([200, OCI_INDEX]);
      const { manifests } = (await response.json()) as { manifests: Record<string, unknown>[] };
      return { manifests, filters: response.headers.get("oci-filters-applied") };
    };
    expect(await list()).toEqual({ manifests: [], filters: null });
    const bill = { ...manifest, subject, artifactType: "test/bill", annotations: { a: "1" } };
    const put = await putManifest(own.repository, own.token, "bill", bill);
    expect([put.status, put.headers.get("oci-subject")]).toEqual([201, digest]);
    // Without a type of its own it is of that of its config.
    await putManifest(own.repository, own.token, "other", { ...manifest, subject });
    const all = (await list()).manifests;
    expect(all).toHaveLength(2);
    expect(all).toContainEqual({
      mediaType: OCI_MANIFEST,
      digest: put.headers.get("docker-content-digest"),
      size: JSON.stringify(bill).length,
      artifactType: "test/bill",
      annotations: { a: "1" },
    });
    const only = await list("?artifactType=test%2Fbill");
    expect(only.filters).toBe("artifactType");
    expect(only.manifests.map(({ artifactType }) => artifactType)).toEqual(["test/bill"]);
    const config = await list("?artifactType=application/vnd.oci.image.config.v1%2Bjson");
    expect(config.manifests).toHaveLength(1);
  });
});

describe("the rest of Sandbar", () => {
  it("resolves a tag, a digest, and an index as its image for linux/amd64", async () => {
    const own = await newEnvironment();
    const registry = openRegistry(env, own.environment);
    const plain = await pushImage(own.repository, own.token, "plain");
    const onHost = await pushImage(own.repository, own.token, "host", {
      annotations: { [BASE_ANNOTATION]: HOST_BASE },
    });
    const entry = (digest: string, architecture: string) => ({
      mediaType: OCI_MANIFEST,
      digest,
      size: 1,
      platform: { os: "linux", architecture },
    });
    const index = (...manifests: object[]) => ({ schemaVersion: 2, mediaType: OCI_INDEX, manifests });
    await putManifest(
      own.repository,
      own.token,
      "many",
      index(entry(plain.digest, "arm64"), entry(onHost.digest, "amd64")),
    );
    await putManifest(
      own.repository,
      own.token,
      "first",
      index(entry(plain.digest, "s390x"), entry(onHost.digest, "arm64")),
    );
    expect(await registry.resolve(own.repository, { tag: "plain" })).toEqual({
      digest: plain.digest,
      size: 100,
      isHostBased: false,
    });
    expect(await registry.resolve(own.repository, { digest: onHost.digest })).toMatchObject({ isHostBased: true });
    expect(await registry.resolve(own.repository, { tag: "many" })).toMatchObject({ size: 100, isHostBased: true });
    expect(await registry.resolve(own.repository, { tag: "first" })).toMatchObject({ size: 100, isHostBased: false });
    expect(await registry.resolve(own.repository, { tag: "none" })).toBeUndefined();
  });

  it("lists what was pushed, but for the snapshots, in order", async () => {
    const own = await newEnvironment();
    const registry = openRegistry(env, own.environment);
    for (const [name, tag] of [
      ["b", "2"],
      ["b", "1"],
      ["a/snapshots", "x"],
    ]) {
      await pushImage(`${own.environment}/${name}`, own.token, tag);
    }
    const { manifest } = await pushImage(own.repository, own.token);
    const bytes = new Uint8Array(new TextEncoder().encode(JSON.stringify(manifest)));
    await registry.putManifest(`${own.environment}/snapshots`, "im-1", await readManifest(bytes, undefined));
    const references = ["a/snapshots:x", "b:1", "b:2"].map((name) => `${own.environment}/${name}`);
    const all = await registry.images(undefined, 10);
    expect(all.map(({ reference }) => reference)).toEqual(references);
    expect(all[0]).toMatchObject({
      size: 100,
      digest: expect.stringMatching(/^sha256:/),
      createdAt: expect.any(Number),
    });
    const page = await registry.images(references[0], 1);
    expect(page.map(({ reference }) => reference)).toEqual([references[1]]);
  });

  it("removes a tag with what only it named, as often as it likes", async () => {
    const own = await newEnvironment();
    const registry = openRegistry(env, own.environment);
    const image = await pushImage(own.repository, own.token, "a");
    await putManifest(own.repository, own.token, "b", image.manifest);
    const child = await pushImage(own.repository, own.token);
    const index = {
      schemaVersion: 2,
      mediaType: OCI_INDEX,
      manifests: [{ mediaType: OCI_MANIFEST, digest: child.digest, size: 1 }],
    };
    await putManifest(own.repository, own.token, "index", index);
    for (let times = 0; times < 2; times += 1) await registry.removeTag(own.repository, "a");
    expect(await rowsOf(own.environment)).toMatchObject({ manifests: 3, tags: 2 });
    await registry.removeTag(own.repository, "b");
    expect(await registry.resolve(own.repository, { digest: image.digest })).toBeUndefined();
    await registry.removeTag(own.repository, "index");
    expect(await rowsOf(own.environment)).toMatchObject({ manifests: 0, tags: 0 });
  });

  it("arms it, also where there is nothing yet", async () => {
    const own = await newEnvironment();
    expect(await sweepAfter(own.environment, 0)).toBe(false);
    await openRegistry(env, own.environment).arm();
    expect(await sweepAfter(own.environment, 0)).toBe(true);
    expect(await sweepAfter(own.environment, 0)).toBe(false);
  });
});
