import { env, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import {
  ahead,
  beginUpload,
  digestOf,
  failureOf,
  keysOf,
  newEnvironment,
  oci,
  ociHere,
  PART,
  randomBytes,
  rowsOf,
  sweepAfter,
} from "./oci-client.ts";

let environment: string;
let token: string;
let path: string;
beforeEach(async () => {
  const own = await newEnvironment();
  ({ environment, token } = own);
  path = await beginUpload(own.repository, token);
});

/** A body that the test writes. */
function openBody() {
  const { readable, writable } = new IdentityTransformStream();
  return { body: readable, writer: writable.getWriter() };
}

/** Bytes, and then the client is gone. */
function brokenBody(bytes: Uint8Array): ReadableStream<Uint8Array> {
  const pieces = [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2)];
  return new ReadableStream({
    pull(controller) {
      const piece = pieces.shift();
      if (piece) controller.enqueue(piece);
      else controller.error(new Error("the client is gone"));
    },
  });
}

const rangeOf = async () => (await oci("GET", path, { token })).headers.get("range");

describe("a PATCH that breaks off", () => {
  it.each([
    ["less than a part", 1000],
    ["more than a part", PART + 1000],
    ["just a part", PART],
  ])("counts with what came of it, and the rest follows: %s", async (_, came) => {
    const bytes = randomBytes(came + 500);
    const broken = await ociHere("PATCH", path, { token, body: brokenBody(bytes.slice(0, came)) });
    expect(await failureOf(broken)).toMatchObject({ status: 400, code: "BLOB_UPLOAD_INVALID" });
    expect(await rangeOf()).toBe(`0-${came - 1}`);
    const headers = { "content-range": `${came}-${came + 499}` };
    expect((await oci("PATCH", path, { token, headers, body: bytes.slice(came) })).status).toBe(202);
    const digest = await digestOf(bytes);
    expect((await oci("PUT", path, { token, query: { digest } })).status).toBe(201);
  });

  it("does not make a PUT of its first bytes the blob", async () => {
    const bytes = randomBytes(100);
    const digest = await digestOf(bytes);
    const broken = await ociHere("PUT", path, { token, query: { digest }, body: brokenBody(bytes.slice(0, 60)) });
    expect(broken.status).toBe(400);
    expect(await rangeOf()).toBe("0-59");
    expect((await oci("PUT", path, { token, query: { digest }, body: bytes.slice(60) })).status).toBe(201);
  });
});

describe("two writers at once", () => {
  it.each([
    ["small", 1000],
    ["in parts", PART + 1000],
  ])("one wins and the other is told 416; nothing is mixed: %s", async (_, size) => {
    const [one, two] = [randomBytes(size), randomBytes(size)];
    const first = openBody();
    const answer = ociHere("PATCH", path, { token, body: first.body });
    await first.writer.write(one.slice(0, 10));
    const second = await oci("PATCH", path, { token, body: two, headers: { "content-range": `0-${size - 1}` } });
    expect(second.status).toBe(416);
    expect(second.headers.get("range")).toBe("0-0");
    await first.writer.write(one.slice(10));
    await first.writer.close();
    expect((await answer).status).toBe(202);
    expect((await oci("PUT", path, { token, query: { digest: await digestOf(one) } })).status).toBe(201);
  });

  it("a PUT that only has to wait is told to come again", async () => {
    const first = openBody();
    const answer = ociHere("PATCH", path, { token, body: first.body });
    await first.writer.write(randomBytes(10));
    const early = await oci("PUT", path, { token, query: { digest: await digestOf("") } });
    expect([early.status, early.headers.get("retry-after")]).toEqual([503, "2"]);
    await first.writer.close();
    expect((await answer).status).toBe(202);
  });

  it("one that nothing is heard of any more is taken over from, and can write no more", async () => {
    const first = openBody();
    const answer = ociHere("PATCH", path, { token, body: first.body });
    await first.writer.write(randomBytes(10));
    await vi.waitFor(async () => expect((await oci("PATCH", path, { token, body: "x" })).status).toBe(416));
    const bytes = randomBytes(30);
    const digest = await digestOf(bytes);
    expect((await ahead(31_000, () => oci("PATCH", path, { token, body: bytes }))).status).toBe(202);
    await first.writer.close();
    expect(await failureOf(await answer)).toMatchObject({ status: 404, code: "BLOB_UPLOAD_UNKNOWN" });
    expect(await rangeOf()).toBe("0-29");
    expect((await oci("PUT", path, { token, query: { digest } })).status).toBe(201);
    // What it has put there late stands among the garbage.
    expect(await keysOf(environment)).toHaveLength(2);
    expect(await rowsOf(environment)).toMatchObject({ garbage: 1, blobs: 1 });
    await sweepAfter(environment, 2 * 86_400_000);
    expect(await keysOf(environment)).toEqual([]);
  });

  it("an upload that is given up meanwhile takes nothing more, and nothing of it stays", async () => {
    const first = openBody();
    const answer = ociHere("PATCH", path, { token, body: first.body });
    await first.writer.write(randomBytes(10));
    await vi.waitFor(async () => expect((await oci("PATCH", path, { token, body: "x" })).status).toBe(416));
    expect((await oci("DELETE", path, { token })).status).toBe(204);
    await first.writer.close();
    expect((await answer).status).toBe(404);
    // What it has put there late stands among the garbage.
    const keys = await keysOf(environment);
    expect(keys).toHaveLength(1);
    const garbage = await runInDurableObject(env.REGISTRIES.get(env.REGISTRIES.idFromName(environment)), (_, state) =>
      state.storage.sql.exec<{ key: string }>("SELECT key FROM garbage").toArray(),
    );
    expect(garbage).toEqual([{ key: keys[0] }]);
    expect(await rowsOf(environment)).toMatchObject({ uploads: 0, blobs: 0 });
  });
});
