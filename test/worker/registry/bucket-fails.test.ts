import { env, runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { faultyBucket, type BucketCall } from "./faulty-bucket.ts";
import {
  beginUpload,
  digestOf,
  failureOf,
  keysOf,
  newEnvironment,
  oci,
  ociHere,
  PART,
  pushBlob,
  randomBytes,
  rowsOf,
  sweepAfter,
} from "./oci-client.ts";

let environment: string;
let token: string;
let repository: string;
let said: ReturnType<typeof vi.spyOn>;
beforeEach(async () => {
  ({ environment, token, repository } = await newEnvironment());
  said = vi.spyOn(console, "error").mockReturnValue(undefined);
});
afterEach(() => vi.restoreAllMocks());

async function expectUnavailable(response: Response): Promise<void> {
  expect(response.headers.get("retry-after")).toBe("2");
  expect(await failureOf(response)).toMatchObject({
    status: 503,
    code: "UNKNOWN",
    message: expect.stringContaining("storage"),
  });
  expect(said).toHaveBeenCalled();
}
const offsetOf = async (path: string) => {
  const last = Number((await oci("GET", path, { token })).headers.get("range")!.slice(2));
  return last === 0 ? 0 : last + 1;
};

describe.each<[BucketCall, number]>([
  ["put", 1000],
  ["begin", PART + 1000],
  ["part", PART + 1000],
  ["put", PART + 1000],
])("a bucket that fails to %s while %i bytes come", (failing, size) => {
  it.each([false, true])("loses nothing that it said was there; done all the same: %s", async (isDone) => {
    const bytes = randomBytes(size);
    const digest = await digestOf(bytes);
    const path = await beginUpload(repository, token);
    const bucket = faultyBucket(failing, { isDone });
    await expectUnavailable(await ociHere("PATCH", path, { token, bucket, body: bytes }));
    expect((await oci("HEAD", `/v2/${repository}/blobs/${digest}`, { token })).status).toBe(404);
    const offset = await offsetOf(path);
    expect(offset).toBe(failing === "put" && size > PART ? PART : 0);
    const headers = { "content-range": `${offset}-${size - 1}` };
    expect((await oci("PATCH", path, { token, headers, body: bytes.slice(offset) })).status).toBe(202);
    expect((await oci("PUT", path, { token, query: { digest } })).status).toBe(201);
    const got = await oci("GET", `/v2/${repository}/blobs/${digest}`, { token });
    expect(await digestOf(await got.arrayBuffer())).toBe(digest);
    await vi.waitFor(async () => expect(await keysOf(environment)).toHaveLength(1));
    expect(await rowsOf(environment)).toMatchObject({ garbage: 0, uploads: 0 });
  });
});

describe.each<[BucketCall, boolean]>([
  ["head", false],
  ["get", false],
  ["part", false],
  ["part", true],
  ["complete", false],
])("a bucket that fails to %s at the end (done all the same: %s)", (failing, isDone) => {
  it("leaves an upload that can be ended then", async () => {
    const bytes = randomBytes(PART + 1000);
    const digest = await digestOf(bytes);
    const path = await beginUpload(repository, token);
    for (const at of [0, 500]) {
      const body = bytes.slice(at, at === 0 ? 500 : undefined);
      expect((await oci("PATCH", path, { token, body })).status).toBe(202);
    }
    const bucket = faultyBucket(failing, { isDone });
    await expectUnavailable(await ociHere("PUT", path, { token, bucket, query: { digest } }));
    expect((await oci("HEAD", `/v2/${repository}/blobs/${digest}`, { token })).status).toBe(404);
    expect((await oci("PUT", path, { token, query: { digest } })).status).toBe(201);
    const got = await oci("GET", `/v2/${repository}/blobs/${digest}`, { token });
    expect(await digestOf(await got.arrayBuffer())).toBe(digest);
  });
});

it("an end that was reached and not said is found", async () => {
  const bytes = randomBytes(PART + 1000);
  const digest = await digestOf(bytes);
  const path = await beginUpload(repository, token);
  await oci("PATCH", path, { token, body: bytes });
  const bucket = faultyBucket("complete", { isDone: true });
  expect((await ociHere("PUT", path, { token, bucket, query: { digest } })).status).toBe(201);
  expect((await oci("HEAD", `/v2/${repository}/blobs/${digest}`, { token })).status).toBe(200);
});

it("a whole upload in one POST that fails leaves nothing", async () => {
  const body = randomBytes(1000);
  const query = { digest: await digestOf(body) };
  const bucket = faultyBucket("put", { isDone: true });
  await expectUnavailable(await ociHere("POST", `/v2/${repository}/blobs/uploads/`, { token, bucket, query, body }));
  await vi.waitFor(async () => expect(await keysOf(environment)).toEqual([]));
  expect(await rowsOf(environment)).toMatchObject({ uploads: 0, blobs: 0 });
});

it("a blob that cannot be got now is not said to be gone", async () => {
  const digest = await pushBlob(repository, token, randomBytes(10));
  const path = `/v2/${repository}/blobs/${digest}`;
  await expectUnavailable(await ociHere("GET", path, { token, bucket: faultyBucket("get") }));
  expect((await oci("GET", path, { token })).status).toBe(200);
});

it("what could not be deleted is deleted by a later sweep", async () => {
  const digest = await pushBlob(repository, token, randomBytes(10));
  const fail = (isFailing: boolean) =>
    runInDurableObject(env.REGISTRIES.get(env.REGISTRIES.idFromName(environment)), (object) => {
      const { SNAPSHOTS: bucket } = (object as unknown as { env: { SNAPSHOTS: R2Bucket } }).env;
      if (isFailing) vi.spyOn(bucket, "delete").mockRejectedValue(new Error("R2 is away"));
      else vi.mocked(bucket.delete).mockRestore();
    });
  await fail(true);
  expect((await oci("DELETE", `/v2/${repository}/blobs/${digest}`, { token })).status).toBe(202);
  await sweepAfter(environment, 1000);
  expect(await rowsOf(environment)).toMatchObject({ blobs: 0, garbage: 1 });
  expect(await keysOf(environment)).toHaveLength(1);
  await fail(false);
  await sweepAfter(environment, 2000);
  expect(await rowsOf(environment)).toMatchObject({ garbage: 0 });
  expect(await keysOf(environment)).toEqual([]);
});
