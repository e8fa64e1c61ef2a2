import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { BlobUpload, hasBlob } from "../../../src/host/registry/blob-upload.ts";
import { Upstream } from "../../../src/host/registry/upstream.ts";
import { digestOf, type Fault, RegistryDouble, TOKEN } from "./registry-double.ts";

const CHUNK = 64 * 1024;
const REPOSITORY = "main/snapshots";
const SIZES = [0, 1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 4 * CHUNK + 7];

let registry: RegistryDouble;
beforeEach(async () => {
  registry = await RegistryDouble.start();
});
afterEach(() => registry.close());

const upstream = (patienceMs?: number, token = TOKEN, { url } = registry) => new Upstream(url, token, patienceMs);
const begin = async (patienceMs?: number, to = registry) =>
  (await BlobUpload.begin(upstream(patienceMs, TOKEN, to), REPOSITORY, { chunkBytes: CHUNK }))!;

/** In pieces that keep to no border. */
async function send(upload: BlobUpload, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length; at += 10_007) await upload.write(bytes.subarray(at, at + 10_007));
}

async function upload(bytes: Buffer, patienceMs?: number, to = registry): Promise<void> {
  const one = await begin(patienceMs, to);
  await send(one, bytes);
  expect(one.size).toBe(bytes.length);
  await one.finish(digestOf(bytes));
}

const arrived = (bytes: Buffer) => registry.blobs.get(digestOf(bytes))?.equals(bytes);

describe("an upload", () => {
  it.each(SIZES)("of %i bytes arrives in chunks, each sent once", async (size) => {
    const bytes = randomBytes(size);
    await upload(bytes);
    expect(arrived(bytes)).toBe(true);
    expect(registry.of("PATCH").map((one) => one.bytes)).toEqual(
      Array.from({ length: Math.ceil(size / CHUNK) }, (_, i) => Math.min(CHUNK, size - i * CHUNK)),
    );
    expect(registry.largestBody).toBeLessThanOrEqual(CHUNK);
    expect(registry.sessions.size).toBe(0);
  });

  const cut = (after: number, keeps = true): Fault => ({ kind: "cut", after, keeps });
  const refused = (status: number): Fault => ({ kind: "refused", status });
  it.each<[string, [method: string, fault: Fault, times?: number][]]>([
    ["is cut off with nothing of it there", [["PATCH", cut(1000, false), 2]]],
    ["is cut off before its first byte", [["PATCH", cut(0)]]],
    ["is cut off behind its first byte", [["PATCH", cut(1)]]],
    ["is cut off again and again", [["PATCH", cut(10_000), 4]]],
    ["is cut off behind its last byte", [["PATCH", cut(CHUNK)]]],
    ["is not answered", [["PATCH", { kind: "lost" }]]],
    ["is not answered, twice", [["PATCH", { kind: "lost" }, 2]]],
    ["meets 500", [["PATCH", refused(500), 2]]],
    ["meets 503", [["PATCH", refused(503), 2]]],
    ["meets 429", [["PATCH", refused(429), 2]]],
    [
      "is cut off, and nobody says where it is",
      [
        ["PATCH", cut(5000)],
        ["GET", refused(503)],
        ["GET", { kind: "lost" }],
      ],
    ],
    [
      "is the beginning that fails",
      [
        ["POST", refused(503)],
        ["POST", { kind: "lost" }],
      ],
    ],
    [
      "is the end that fails",
      [
        ["PUT", refused(500)],
        ["PUT", refused(429)],
      ],
    ],
    ["is the end that is not answered", [["PUT", { kind: "lost" }]]],
  ])("arrives when a request %s", async (_, faults) => {
    await Promise.all(
      SIZES.map(async (size) => {
        const own = await RegistryDouble.start();
        for (const fault of faults) own.next(...fault);
        const bytes = randomBytes(size);
        await upload(bytes, 5_000, own);
        expect(own.blobs.get(digestOf(bytes))?.equals(bytes)).toBe(true);
        expect(own.largestBody).toBeLessThanOrEqual(CHUNK);
        own.close();
      }),
    );
  });

  it("is taken up where it was, and nothing more is sent", async () => {
    registry.next("PATCH", cut(10_000));
    const bytes = randomBytes(2 * CHUNK);
    await upload(bytes);
    const ranges = registry.of("PATCH").map(({ headers }) => headers["content-range"]);
    expect(ranges).toEqual([`0-${CHUNK - 1}`, `10000-${CHUNK - 1}`, `${CHUNK}-${2 * CHUNK - 1}`]);
  });

  it("does not lose its patience while it gets on, however slowly", async () => {
    registry.next("PATCH", { kind: "cut", after: 10_000, keeps: true, delayMs: 400 }, 3);
    const bytes = randomBytes(CHUNK);
    await upload(bytes, 300);
    expect(arrived(bytes)).toBe(true);
  });

  it.each([
    ["POST", 401],
    ["POST", 403],
    ["PATCH", 401],
    ["PATCH", 403],
    ["PUT", 403],
  ])("is given up at once when %s is answered with %i", async (method, status) => {
    registry.next(method, { kind: "refused", status, code: "DENIED", message: "This is not yours." });
    const failure = await upload(randomBytes(CHUNK)).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: "RegistryError", status, message: "This is not yours. (DENIED)" });
    expect(registry.of(method).length).toBe(1);
  });

  it("is refused without the right grant", async () => {
    const begun = BlobUpload.begin(upstream(undefined, "another"), REPOSITORY);
    await expect(begun).rejects.toMatchObject({ status: 401, message: "Send an API key. (UNAUTHORIZED)" });
  });

  it.each(["PATCH", "PUT"])("fails where nobody knows it any more (%s)", async (method) => {
    registry.next(method, { kind: "forgotten" });
    const message = "There is no such upload. (BLOB_UPLOAD_UNKNOWN)";
    await expect(upload(randomBytes(2 * CHUNK))).rejects.toMatchObject({ status: 404, message });
  });

  it("fails where a part of it was lost that is not here any more", async () => {
    const one = await begin();
    await send(one, randomBytes(CHUNK));
    await expect.poll(() => [...registry.sessions.values()][0]!.size).toBe(CHUNK);
    [...registry.sessions.values()][0]!.size = 9;
    await send(one, randomBytes(CHUNK));
    await expect(one.finish(digestOf(""))).rejects.toThrow("the registry has lost a part of the upload");
  });

  it("of another digest is refused", async () => {
    const one = await begin();
    await send(one, randomBytes(CHUNK + 3));
    await expect(one.finish(digestOf("something else"))).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(
        /^The content has the digest sha256:\w+\. The upload is discarded\. \(DIGEST_INVALID\)$/,
      ),
    });
    expect(registry.blobs.size).toBe(0);
  });

  it.each(["POST", "PATCH", "GET", "PUT"])("is tried again for so long only (%s)", async (method) => {
    if (method === "GET") registry.next("PATCH", { kind: "lost" });
    registry.next(method, refused(503), 1000);
    const begun = Date.now();
    await expect(upload(randomBytes(9), 500)).rejects.toMatchObject({ status: 503, message: "Not now. (UNKNOWN)" });
    expect(Date.now() - begun).toBeGreaterThanOrEqual(200);
    expect(Date.now() - begun).toBeLessThan(2_000);
    expect(registry.of(method).length).toBeGreaterThan(1);
  });

  it("says that nobody answers", async () => {
    const nowhere = new Upstream("http://127.0.0.1:9", TOKEN, 100);
    await expect(BlobUpload.begin(nowhere, REPOSITORY)).rejects.toMatchObject({
      status: 0,
      message: expect.stringMatching(/^the registry does not answer: .*(ECONNREFUSED|bad port)/),
    });
  });

  it("is none of what is there already", async () => {
    const digest = registry.put(randomBytes(100));
    expect(await hasBlob(upstream(), REPOSITORY, digest)).toBe(true);
    expect(await hasBlob(upstream(), REPOSITORY, digestOf("other"))).toBe(false);
    expect(await BlobUpload.begin(upstream(), REPOSITORY, { mount: digest })).toBeUndefined();
    expect(await BlobUpload.begin(upstream(), REPOSITORY, { mount: digestOf("other") })).toBeDefined();
  });

  it("goes where the registry is, whatever host that says", async () => {
    registry.isAbsolute = true;
    const bytes = randomBytes(100);
    await upload(bytes);
    expect(arrived(bytes)).toBe(true);
  });

  it("leaves nothing when it is given up", async () => {
    const one = await begin();
    await send(one, randomBytes(CHUNK + 1));
    await one.cancel();
    expect([registry.sessions.size, registry.blobs.size]).toEqual([0, 0]);
  });
});
