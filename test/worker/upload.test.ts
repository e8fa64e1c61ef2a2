import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { upload } from "../../src/api/upload.ts";
import type { Upload } from "../../src/backends/backend.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { EndMarkerCheck } from "../../src/contract/end-marker.ts";
import { ApiError, asApiError, type ErrorCode } from "../../src/contract/errors.ts";
import { deriveHostKey, verifyRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { toProblem } from "../../src/contract/problem.ts";
import type { SandboxRpc, Scope } from "../../src/sandbox/rpc.ts";
import { HOST_ID } from "./client.ts";

const SECRET = "a-signing-secret-of-the-test-0123456789";
const SCOPE = { environment: "main" } as Scope;
const LARGE = "x".repeat(100_000);
const FILES = `/v1/sandboxes/${newId("sandbox")}/files`;
const sandboxId = FILES.split("/")[3]!;
const backend = new DockerBackend(sandboxId, 1, { hostId: HOST_ID, url: "http://host.test:7070" }, SECRET);

/** What reached the host, and what the object: the method and the path, and the body. */
let sent: { target: string; body: string; signature: string | null }[];
let relayed: [string, string, string, unknown][];
let answer: () => Response;
const uploadTarget = vi.fn(
  async (_scope: Scope, what: Upload, _failure?: ErrorCode) => backend.uploadTarget(what) as Promise<unknown>,
);
const relay = (name: string) => async (_scope: Scope, path: string, body: ReadableStream, options: unknown) =>
  void relayed.push([name, path, await new Response(body).text(), options]);
const sandbox = {
  uploadTarget,
  writeFile: relay("writeFile"),
  writeArchive: relay("writeArchive"),
} as unknown as SandboxRpc;

beforeEach(() => {
  sent = [];
  relayed = [];
  answer = () => new Response(null, { status: 204 });
  uploadTarget.mockClear();
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input as string, init as RequestInit);
    const { pathname, search } = new URL(request.url);
    const signature = request.headers.get("x-sandbar-signature");
    sent.push({ target: `${request.method} ${pathname}${search}`, body: await request.text(), signature });
    return answer();
  });
});

afterEach(() => vi.restoreAllMocks());

function put(body: BodyInit, headers: Record<string, string> = {}): Request {
  return new Request("http://api.test/", { method: "PUT", body, headers });
}

const known = (text: string) => put(text, { "content-length": String(text.length) });
const toFile = (request: Request) =>
  upload(sandbox, SCOPE, request, (length) => ({ what: "file", path: "/a", options: { ...length, mode: "600" } }));

it("sends a large body to the host, in a request that the host takes as signed", async () => {
  await toFile(known(LARGE));
  const target = `${FILES}?path=%2Fa&mode=600&size=${LARGE.length}`;
  expect([sent.length, sent[0]!.target, sent[0]!.body === LARGE, relayed]).toEqual([1, `PUT ${target}`, true, []]);
  const key = await deriveHostKey(SECRET, HOST_ID);
  await verifyRequest(key, HOST_ID, { authorization: sent[0]!.signature, method: "PUT", target });
});

it("sends one whose length nobody knows with the mark of its end", async () => {
  await upload(sandbox, SCOPE, put("tar"), (options) => ({ what: "archive", path: "/d", options }));
  const marker = /^PUT .*\/files\/archive\?path=%2Fd&end_marker=([0-9a-f]{64})$/.exec(sent[0]!.target)![1]!;
  expect(new EndMarkerCheck(marker).push(new TextEncoder().encode("tar"))).toEqual([]);
  expect(sent[0]!.body.startsWith("tar")).toBe(true);
});

it("has the object take a small one, and what has no host", async () => {
  await toFile(known("small"));
  expect(uploadTarget).not.toHaveBeenCalled();
  uploadTarget.mockResolvedValueOnce(undefined);
  await toFile(known(LARGE));
  uploadTarget.mockResolvedValueOnce(undefined);
  await upload(sandbox, SCOPE, known(LARGE), (options) => ({ what: "archive", path: "/d", options }));
  expect(sent).toEqual([]);
  expect(relayed).toEqual([
    ["writeFile", "/a", "small", { size: 5, mode: "600" }],
    ["writeFile", "/a", LARGE, { size: LARGE.length, mode: "600" }],
    ["writeArchive", "/d", LARGE, { size: LARGE.length }],
  ]);
});

it("fails as the host says", async () => {
  answer = () => Response.json(toProblem(new ApiError("is_a_directory")), { status: 409 });
  expect(await toFile(known(LARGE)).catch(asApiError)).toMatchObject({ code: "is_a_directory" });
  expect(uploadTarget).toHaveBeenCalledTimes(1);
});

it.each([
  ["sandbox_ended", () => Response.json(toProblem(new ApiError("sandbox_ended")), { status: 409 })],
  ["backend_unavailable", () => new Response("<html>", { status: 502 })],
  [
    "backend_unavailable",
    () => {
      throw new Error("refused");
    },
  ],
] as const)("lets the object know of %s, which may know more", async (code, failing) => {
  answer = failing;
  expect(await toFile(known(LARGE)).catch(asApiError)).toMatchObject({ code });
  expect(uploadTarget.mock.lastCall?.[2]).toBe(code);
  uploadTarget.mockImplementationOnce(async (_scope, what) => backend.uploadTarget(what));
  uploadTarget.mockRejectedValueOnce(new ApiError("sandbox_ended", { detail: "It was terminated." }));
  expect(await toFile(known(LARGE)).catch(asApiError)).toMatchObject({ detail: "It was terminated." });
  expect(relayed).toEqual([]);
});
