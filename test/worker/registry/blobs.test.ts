import { beforeAll, describe, expect, it } from "vitest";
import { digestOf, failureOf, newEnvironment, oci, pushBlob, pushImage, randomBytes, rowsOf } from "./oci-client.ts";

let environment: string;
let token: string;
let repository: string;
beforeAll(async () => ({ environment, token, repository } = await newEnvironment()));

describe("a blob", () => {
  const bytes = randomBytes(1000);
  let path: string;
  let digest: string;
  beforeAll(async () => {
    digest = await pushBlob(repository, token, bytes);
    path = `/v2/${repository}/blobs/${digest}`;
  });

  it("is answered with what an engine goes by", async () => {
    for (const method of ["GET", "HEAD"]) {
      const response = await oci(method, path, { token });
      expect(response.status).toBe(200);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "content-type": "application/octet-stream",
        "content-length": "1000",
        "docker-content-digest": digest,
        etag: `"${digest}"`,
        "accept-ranges": "bytes",
        "cache-control": expect.stringMatching(/^private,.*immutable/),
        "docker-distribution-api-version": "registry/2.0",
      });
      expect((await response.arrayBuffer()).byteLength).toBe(method === "GET" ? 1000 : 0);
    }
  });

  it.each([
    ["bytes=0-9", 0, 9],
    ["bytes=990-5000", 990, 999],
    ["bytes=400-", 400, 999],
    ["bytes=-7", 993, 999],
    ["bytes=-5000", 0, 999],
  ])("is answered in part: %s", async (range, first, last) => {
    const response = await oci("GET", path, { token, headers: { range } });
    expect([response.status, response.headers.get("content-range")]).toEqual([206, `bytes ${first}-${last}/1000`]);
    expect(response.headers.get("content-length")).toBe(String(last - first + 1));
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(bytes.slice(first, last + 1));
  });

  it("has no bytes behind its end", async () => {
    for (const range of ["bytes=1000-", "bytes=-0"]) {
      const response = await oci("GET", path, { token, headers: { range } });
      expect([response.status, response.headers.get("content-range")]).toEqual([416, "bytes */1000"]);
    }
  });

  it("is the environment's: every repository of it has it, as has whoever escapes the colon", async () => {
    const paths = [`/v2/${environment}/other/deep/blobs/${digest}`, path.replace("sha256:", "sha256%3A")];
    for (const other of paths) expect((await oci("HEAD", other, { token })).status).toBe(200);
  });

  it("is not there when it was not pushed, which HEAD says without a body", async () => {
    const missing = `/v2/${repository}/blobs/${await digestOf("missing")}`;
    expect(await failureOf(await oci("GET", missing, { token }))).toMatchObject({ status: 404, code: "BLOB_UNKNOWN" });
    const head = await oci("HEAD", missing, { token });
    expect([head.status, await head.text()]).toEqual([404, ""]);
    const other = await oci("GET", `/v2/${repository}/blobs/md5:abc`, { token });
    expect(await failureOf(other)).toMatchObject({ status: 400, code: "DIGEST_INVALID" });
  });
});

describe("a mount", () => {
  const mount = (query: Record<string, string>, own = { repository, token }) =>
    oci("POST", `/v2/${own.repository}/blobs/uploads/`, { token: own.token, query });

  it("is done at once where the environment has the blob", async () => {
    const digest = await pushBlob(repository, token, randomBytes(10));
    const target = `${environment}/target`;
    for (const from of [{}, { from: repository }]) {
      const response = await mount({ mount: digest, ...from }, { repository: target, token });
      expect([response.status, response.headers.get("location")]).toEqual([201, `/v2/${target}/blobs/${digest}`]);
    }
  });

  it("begins an upload where it has not, whoever else may", async () => {
    const other = await newEnvironment();
    const digest = await pushBlob(other.repository, other.token, randomBytes(10));
    for (const query of [{ mount: digest }, { mount: digest, from: other.repository }]) {
      const response = await mount(query);
      expect([response.status, response.headers.has("docker-upload-uuid")]).toEqual([202, true]);
    }
    const own = await pushBlob(repository, token, randomBytes(10));
    expect((await mount({ mount: own, from: other.repository })).status).toBe(202);
  });
});

describe("DELETE of a blob", () => {
  it("removes it and its bytes, unless a manifest refers to it", async () => {
    const own = await newEnvironment();
    const digest = await pushBlob(own.repository, own.token, randomBytes(10));
    const path = `/v2/${own.repository}/blobs/${digest}`;
    expect((await oci("DELETE", path, { token: own.token })).status).toBe(202);
    expect(await failureOf(await oci("DELETE", path, { token: own.token }))).toMatchObject({ code: "BLOB_UNKNOWN" });
    expect((await oci("HEAD", path, { token: own.token })).status).toBe(404);
    const { manifest } = await pushImage(own.repository, own.token, "1");
    for (const { digest: used } of [manifest.config, ...manifest.layers]) {
      const refused = await oci("DELETE", `/v2/${own.repository}/blobs/${used}`, { token: own.token });
      expect(await failureOf(refused)).toMatchObject({ status: 405, code: "UNSUPPORTED" });
    }
    expect(await rowsOf(own.environment)).toMatchObject({ blobs: 2 });
  });
});
