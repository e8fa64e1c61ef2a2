import { beforeAll, describe, expect, it, vi } from "vitest";
import {
  beginUpload,
  digestOf,
  failureOf,
  keysOf,
  MIB,
  newEnvironment,
  oci,
  PART,
  pushBlob,
  randomBytes,
  rowsOf,
} from "./oci-client.ts";

let environment: string;
let token: string;
let repository: string;
beforeAll(async () => ({ environment, token, repository } = await newEnvironment()));

const patch = (path: string, body: BodyInit, headers: Record<string, string> = {}) =>
  oci("PATCH", path, { token, body, headers });
const put = (path: string, digest: string, body?: BodyInit, headers: Record<string, string> = {}) =>
  oci("PUT", path, { token, query: { digest }, headers, ...(body !== undefined && { body }) });

async function expectBlob(digest: string, bytes: Uint8Array): Promise<void> {
  const response = await oci("GET", `/v2/${repository}/blobs/${digest}`, { token });
  expect(response.status).toBe(200);
  const got = new Uint8Array(await response.arrayBuffer());
  expect(got.length).toBe(bytes.length);
  expect(await digestOf(got)).toBe(digest);
}

describe("an upload", () => {
  it("takes one PATCH and an empty PUT, as Docker sends it", async () => {
    const bytes = randomBytes(1000);
    const digest = await digestOf(bytes);
    const begun = await oci("POST", `/v2/${repository}/blobs/uploads/`, { token });
    expect(begun.status).toBe(202);
    const uuid = begun.headers.get("docker-upload-uuid")!;
    const path = begun.headers.get("location")!;
    expect(path).toBe(`/v2/${repository}/blobs/uploads/${uuid}`);
    expect(begun.headers.get("range")).toBe("0-0");
    const patched = await patch(path, bytes);
    expect([patched.status, patched.headers.get("range"), patched.headers.get("location")]).toEqual([
      202,
      "0-999",
      path,
    ]);
    expect((await oci("HEAD", `/v2/${repository}/blobs/${digest}`, { token })).status).toBe(404);
    const done = await put(path, digest);
    expect([done.status, done.headers.get("location"), done.headers.get("docker-content-digest")]).toEqual([
      201,
      `/v2/${repository}/blobs/${digest}`,
      digest,
    ]);
    await expectBlob(digest, bytes);
    expect(await failureOf(await oci("GET", path, { token }))).toMatchObject({
      status: 404,
      code: "BLOB_UPLOAD_UNKNOWN",
    });
  });

  it("takes a body with its POST, and an empty blob", async () => {
    for (const bytes of [randomBytes(10), new Uint8Array()])
      await expectBlob(await pushBlob(repository, token, bytes), bytes);
  });

  it("takes chunks that follow each other, and the last one with its PUT", async () => {
    const bytes = randomBytes(2500);
    const digest = await digestOf(bytes);
    const path = await beginUpload(repository, token);
    expect((await patch(path, bytes.slice(0, 1000), { "content-range": "0-999" })).status).toBe(202);
    const second = await patch(path, bytes.slice(1000, 2000), { "content-range": "bytes 1000-1999" });
    expect([second.status, second.headers.get("range")]).toEqual([202, "0-1999"]);
    const status = await oci("GET", path, { token });
    expect([status.status, status.headers.get("range"), status.headers.get("location")]).toEqual([204, "0-1999", path]);
    expect((await put(path, digest, bytes.slice(2000), { "content-range": "2000-2499" })).status).toBe(201);
    await expectBlob(digest, bytes);
  });

  it("refuses bytes that do not follow, and says where it is", async () => {
    const path = await beginUpload(repository, token);
    await patch(path, randomBytes(100), { "content-range": "0-99" });
    for (const range of ["0-99", "101-200", "99-100"]) {
      const refused = await patch(path, randomBytes(Number(range.split("-")[1]) - Number(range.split("-")[0]) + 1), {
        "content-range": range,
      });
      expect([refused.status, refused.headers.get("range"), refused.headers.get("location")]).toEqual([
        416,
        "0-99",
        path,
      ]);
      expect((await failureOf(refused)).code).toBe("BLOB_UPLOAD_INVALID");
    }
    expect(await failureOf(await patch(path, "x", { "content-range": "nonsense" }))).toMatchObject({ status: 400 });
    expect(await failureOf(await patch(path, "xy", { "content-range": "100-100" }))).toMatchObject({
      code: "SIZE_INVALID",
    });
    const late = await put(path, await digestOf("x"), "x", { "content-range": "7-7" });
    expect([late.status, late.headers.get("range")]).toEqual([416, "0-99"]);
  });

  it.each([
    ["just one part", PART, [PART]],
    ["a byte more than one part", PART + 1, [PART + 1]],
    ["exactly two parts, by chunks of odd sizes", 2 * PART, [3 * MIB + 1, PART, PART]],
    ["20 MiB at once", 20 * MIB, [20 * MIB]],
    ["20 MiB in chunks larger and smaller than a part", 20 * MIB, [9 * MIB, 100, PART, 20 * MIB]],
  ])("of %s is what was sent", async (_, size, chunks) => {
    const bytes = randomBytes(size);
    const digest = await digestOf(bytes);
    const path = await beginUpload(repository, token);
    let at = 0;
    for (const length of chunks) {
      const chunk = bytes.slice(at, at + length);
      expect((await patch(path, chunk)).status).toBe(202);
      at += chunk.length;
    }
    expect((await put(path, digest)).status).toBe(201);
    await expectBlob(digest, bytes);
  });

  it("leaves one object in the bucket, however it came", async () => {
    const own = await newEnvironment();
    const bytes = randomBytes(9 * MIB);
    const path = await beginUpload(own.repository, own.token);
    for (const at of [0, 4 * MIB])
      await oci("PATCH", path, { token: own.token, body: bytes.slice(at, at ? undefined : 4 * MIB) });
    await oci("PUT", path, { token: own.token, query: { digest: await digestOf(bytes) } });
    await pushBlob(own.repository, own.token, randomBytes(5));
    await vi.waitFor(async () => expect(await keysOf(own.environment)).toHaveLength(2));
    expect(await rowsOf(own.environment)).toMatchObject({ blobs: 2, uploads: 0, upload_parts: 0, garbage: 0 });
  });

  it("of what is there already leaves what is there", async () => {
    const own = await newEnvironment();
    const bytes = randomBytes(50);
    await pushBlob(own.repository, own.token, bytes);
    const before = await keysOf(own.environment);
    await pushBlob(own.repository, own.token, bytes);
    await vi.waitFor(async () => expect(await keysOf(own.environment)).toEqual(before));
  });

  it.each([
    ["one request", [1000]],
    ["several", [400, 600]],
    ["several, in parts", [PART + 5, 10]],
  ])("of another digest is discarded, when it came in %s", async (_, chunks) => {
    const own = await newEnvironment();
    const path = await beginUpload(own.repository, own.token);
    for (const length of chunks) await oci("PATCH", path, { token: own.token, body: randomBytes(length) });
    const digest = await digestOf("something else");
    const refused = await failureOf(await oci("PUT", path, { token: own.token, query: { digest } }));
    expect(refused).toMatchObject({ status: 400, code: "DIGEST_INVALID" });
    expect((await oci("HEAD", `/v2/${own.repository}/blobs/${digest}`, { token: own.token })).status).toBe(404);
    expect((await oci("GET", path, { token: own.token })).status).toBe(404);
    await vi.waitFor(async () => expect(await keysOf(own.environment)).toEqual([]));
    expect(await rowsOf(own.environment)).toMatchObject({ blobs: 0, uploads: 0, garbage: 0 });
  });

  it("refuses a digest that is none, or of another algorithm, and loses nothing by it", async () => {
    const path = await beginUpload(repository, token);
    await patch(path, "abc");
    const other = await failureOf(await put(path, `sha512:${"0".repeat(128)}`));
    expect(other).toMatchObject({ status: 400, code: "DIGEST_INVALID", message: expect.stringContaining("sha512") });
    expect(await failureOf(await oci("PUT", path, { token }))).toMatchObject({ code: "DIGEST_INVALID" });
    expect((await put(path, await digestOf("abc"))).status).toBe(201);
  });

  it("is given up by DELETE", async () => {
    const own = await newEnvironment();
    const path = await beginUpload(own.repository, own.token);
    await oci("PATCH", path, { token: own.token, body: randomBytes(PART + 5) });
    expect((await oci("DELETE", path, { token: own.token })).status).toBe(204);
    expect((await oci("GET", path, { token: own.token })).status).toBe(404);
    await vi.waitFor(async () => expect(await rowsOf(own.environment)).toMatchObject({ uploads: 0, garbage: 0 }));
    expect(await keysOf(own.environment)).toEqual([]);
  });

  it("is known in its own repository only", async () => {
    const path = await beginUpload(repository, token);
    const elsewhere = path.replace(repository, `${environment}/other`);
    expect(await failureOf(await patch(elsewhere, "x"))).toMatchObject({ status: 404, code: "BLOB_UPLOAD_UNKNOWN" });
    expect(await failureOf(await patch(`/v2/${repository}/blobs/uploads/none`, "x"))).toMatchObject({ status: 404 });
  });
});
