import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { downloadBlob, downloadDocument } from "../../../src/host/registry/blob-download.ts";
import { Upstream } from "../../../src/host/registry/upstream.ts";
import { digestOf, type Fault, RegistryDouble, TOKEN } from "./registry-double.ts";

const REPOSITORY = "main/snapshots";
const SIZE = 300_000;

let registry: RegistryDouble;
beforeEach(async () => {
  registry = await RegistryDouble.start();
});
afterEach(() => registry.close());

const upstream = (patienceMs?: number, token = TOKEN) => new Upstream(registry.url, token, patienceMs);
const download = (digest: string, from = upstream()) => buffer(downloadBlob(from, REPOSITORY, digest));
const ranges = () => registry.of("GET").map(({ headers }) => headers.range);
const refused = (status: number): Fault => ({ kind: "refused", status, code: "DENIED", message: "No." });

describe("a download", () => {
  it.each([0, 1, 65_536, SIZE])("of %i bytes is what was stored", async (size) => {
    const bytes = randomBytes(size);
    expect((await download(registry.put(bytes))).equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined]);
  });

  it("goes on where it broke off, again and again", async () => {
    const bytes = randomBytes(SIZE);
    const digest = registry.put(bytes);
    for (const after of [100_000, 1, 50_000]) registry.next("GET", { kind: "broken", after });
    expect((await download(digest)).equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, "bytes=100000-", "bytes=100001-", "bytes=150001-"]);
  });

  it.each([
    [0, "before its first byte"],
    [SIZE - 1, "before its last byte"],
    [SIZE, "behind its last byte"],
  ])("is whole when it breaks off after %i bytes: %s", async (after) => {
    const bytes = randomBytes(SIZE);
    registry.next("GET", { kind: "broken", after, isChunked: true });
    expect((await download(registry.put(bytes))).equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, after === 0 ? undefined : `bytes=${after}-`]);
  });

  it("waits for a registry that fails meanwhile", async () => {
    const bytes = randomBytes(SIZE);
    const digest = registry.put(bytes);
    registry.next("GET", { kind: "broken", after: 1000 });
    for (const status of [500, 503, 429]) registry.next("GET", refused(status));
    registry.next("GET", { kind: "lost" });
    expect((await download(digest)).equals(bytes)).toBe(true);
    expect(ranges()).toEqual([undefined, ...Array<string>(5).fill("bytes=1000-")].slice(0, ranges().length));
  });

  it("of other bytes fails, also where only the rest of them is wrong", async () => {
    const digest = registry.put(randomBytes(SIZE));
    registry.next("GET", { kind: "damaged" });
    await expect(download(digest)).rejects.toThrow(`the blob ${digest} is damaged`);
    registry.next("GET", { kind: "broken", after: 1000 });
    registry.next("GET", { kind: "damaged" });
    await expect(download(digest)).rejects.toThrow(`the blob ${digest} is damaged`);
  });

  it("that is too long or cut short for good is damaged", async () => {
    const bytes = randomBytes(1000);
    const digest = digestOf(bytes);
    for (const other of [Buffer.concat([bytes, bytes]), bytes.subarray(0, 999)]) {
      registry.blobs.set(digest, other);
      await expect(download(digest)).rejects.toThrow("is damaged");
    }
  });

  it("is given up where the registry begins anew instead of going on", async () => {
    const digest = registry.put(randomBytes(SIZE));
    registry.ignoresRanges = true;
    registry.next("GET", { kind: "broken", after: 1000 });
    await expect(download(digest)).rejects.toThrow("the registry does not go on where it was");
  });

  it("is given up at once where it is not allowed, or not there", async () => {
    const digest = registry.put(randomBytes(10));
    for (const status of [401, 403]) {
      registry.next("GET", refused(status));
      await expect(download(digest)).rejects.toMatchObject({ status, message: "No. (DENIED)" });
    }
    await expect(download(digestOf("none"))).rejects.toMatchObject({ status: 404 });
    await expect(download(digest, upstream(undefined, "another"))).rejects.toMatchObject({ status: 401 });
    expect(registry.requests.length).toBe(4);
  });

  it("is tried again for so long only", async () => {
    const digest = registry.put(randomBytes(10));
    registry.next("GET", refused(503), 1000);
    const begun = Date.now();
    await expect(download(digest, upstream(500))).rejects.toMatchObject({ status: 503 });
    expect(Date.now() - begun).toBeLessThan(2_000);
    expect(registry.requests.length).toBeGreaterThan(1);
  });

  it("that breaks off each time before it has begun is given up", async () => {
    const digest = registry.put(randomBytes(10));
    registry.next("GET", { kind: "broken", after: 0 }, 1000);
    await expect(download(digest)).rejects.toThrow("the registry breaks off");
    expect(registry.requests.length).toBeLessThan(20);
  });

  it("lets go of the registry when nobody wants it any more", async () => {
    const stream = downloadBlob(upstream(), REPOSITORY, registry.put(randomBytes(64_000_000)));
    for await (const _ of stream) break;
    await expect.poll(() => registry.requests[0]!.isLeft).toBe(true);
    expect(registry.requests.length).toBe(1);
  });
});

describe("a document", () => {
  const text = JSON.stringify({ schemaVersion: 2, config: "ünïcode" });
  const digest = digestOf(text);
  const get = (maxBytes = 1000, from = upstream()) =>
    downloadDocument(from, `/v2/${REPOSITORY}/blobs/${digest}`, digest, maxBytes, "application/json");
  beforeEach(() => void registry.put(Buffer.from(text)));

  it("is what was stored, and asked for by its type", async () => {
    expect(await get()).toBe(text);
    expect(registry.requests[0]!.headers.accept).toBe("application/json");
  });

  it("comes through a registry that fails, and one that breaks off", async () => {
    registry.next("GET", refused(503));
    registry.next("GET", { kind: "broken", after: 5 });
    expect(await get()).toBe(text);
  });

  it("is refused where it is damaged, too large or not there", async () => {
    registry.next("GET", { kind: "damaged" });
    await expect(get()).rejects.toThrow(`the document ${digest} is damaged`);
    await expect(get(text.length - 1)).rejects.toThrow("too large");
    registry.blobs.clear();
    await expect(get()).rejects.toMatchObject({ status: 404 });
    expect(registry.requests.length).toBe(3);
  });
});
