import { afterEach, describe, expect, it, vi } from "vitest";
import { openSource } from "../../src/api/open-source.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { ApiError, asApiError, ERRORS, FILE_CODES } from "../../src/contract/errors.ts";
import type { FileInfo } from "../../src/contract/file.ts";
import { newId } from "../../src/contract/ids.ts";
import { toProblem } from "../../src/contract/problem.ts";
import { HOST_ID } from "./client.ts";

const sandboxId = newId("sandbox");
const volumeId = newId("volume");
const secret = "a-signing-secret-of-the-test-0123456789";
const backend = new DockerBackend(sandboxId, 1, { hostId: HOST_ID, url: "http://host.test:7070" }, secret);
const PATH = "/a b/é&?#";
const ENCODED = "path=%2Fa+b%2F%C3%A9%26%3F%23";
const INFO: FileInfo = {
  name: "é&?#",
  path: PATH,
  type: "directory",
  size: 4096,
  mode: "755",
  permissions: "drwxr-xr-x",
  owner: "root",
  group: "root",
  modified_at: "2001-02-03T04:05:06.123456789Z",
};
const COMMIT = { path: "/data", volume_id: volumeId, version: 2, changed_files: 1, uploaded_bytes: 3 };
const RELOAD = { path: "/data", volume_id: volumeId, version: 2, changed_files: 1, downloaded_bytes: 3 };
const stream = (text: string) => new Response(text).body!;
const endMarker = "0123456789abcdef".repeat(4);

afterEach(() => vi.restoreAllMocks());

/** A host that answers so; what it was asked. */
function host(answer: () => Response) {
  const requests: { method: string; target: string; body: string; signature: string | null }[] = [];
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    const request = new Request(input as string, init as RequestInit);
    const target = request.url.replace(`http://host.test:7070/v1/sandboxes/${sandboxId}`, "");
    const signature = request.headers.get("x-sandbar-signature");
    requests.push({ method: request.method, target, body: await request.text(), signature });
    return answer();
  });
  return requests;
}

const nothing = () => new Response(null, { status: 204 });
const json = (value: unknown) => () => Response.json(value);
const CALLS: [string, () => Promise<unknown>, string, string, () => Response, unknown][] = [
  ["stat", () => backend.stat(PATH), `GET /files/stat?${ENCODED}`, "", json(INFO), INFO],
  [
    "list",
    () => backend.list(PATH, { depth: 2, limit: 10 }),
    `GET /files/list?${ENCODED}&depth=2&limit=10`,
    "",
    json({ data: [INFO], more: true }),
    { data: [INFO], more: true },
  ],
  [
    "list of the next page",
    () => backend.list("/", { depth: 1, limit: 1, after: "/é" }),
    "GET /files/list?path=%2F&depth=1&limit=1&after=%2F%C3%A9",
    "",
    json({ data: [], more: false }),
    { data: [], more: false },
  ],
  [
    "makeDirectory",
    () => backend.makeDirectory(PATH, true),
    "POST /files/directories",
    JSON.stringify({ path: PATH, parents: true }),
    json(INFO),
    INFO,
  ],
  [
    "move",
    () => backend.move("/a", PATH),
    "POST /files/move",
    JSON.stringify({ from: "/a", to: PATH }),
    nothing,
    undefined,
  ],
  ["remove", () => backend.remove(PATH, false), `DELETE /files?${ENCODED}&recursive=false`, "", nothing, undefined],
  [
    "writeFile",
    () => backend.writeFile(PATH, stream("x"), { mode: "600", size: 1 }),
    `PUT /files?${ENCODED}&mode=600&size=1`,
    "x",
    nothing,
    undefined,
  ],
  [
    "writeArchive",
    () => backend.writeArchive(PATH, stream("tar"), { size: 3 }),
    `PUT /files/archive?${ENCODED}&size=3`,
    "tar",
    nothing,
    undefined,
  ],
  [
    "writeArchive of no known length",
    () => backend.writeArchive("/a", stream("tar"), { endMarker }),
    `PUT /files/archive?path=%2Fa&end_marker=${endMarker}`,
    "tar",
    nothing,
    undefined,
  ],
  ["commitVolumes", () => backend.commitVolumes(), "POST /volumes/commit", "{}", json([COMMIT]), [COMMIT]],
  [
    "reloadVolumes",
    () => backend.reloadVolumes(["/data"]),
    "POST /volumes/reload",
    JSON.stringify({ paths: ["/data"] }),
    json([RELOAD]),
    [RELOAD],
  ],
];

describe.each(CALLS)("%s", (name, run, request, body, answer, result) => {
  it("asks the host as the protocol has it", async () => {
    const requests = host(answer);
    expect(await run()).toEqual(result);
    expect(requests).toEqual([expect.objectContaining({ body, signature: expect.any(String) })]);
    expect(`${requests[0]!.method} ${requests[0]!.target}`).toBe(request);
  });

  it("fails as the host says", async () => {
    for (const code of [...FILE_CODES, "volume_not_stored", "sandbox_ended"] as const) {
      host(() => Response.json(toProblem(new ApiError(code, { detail: name })), { status: ERRORS[code].status }));
      expect(await run().catch(asApiError)).toMatchObject({ code, detail: name });
    }
  });

  it("takes no answer that makes no sense", async () => {
    host(() => new Response("<html>", { status: 502 }));
    expect(await run().catch(asApiError)).toMatchObject({ code: "backend_unavailable" });
    if (result === undefined) return;
    host(json({ data: [{ ...INFO, type: "door" }] }));
    expect(await run().catch(asApiError)).toMatchObject({ code: "backend_unavailable" });
  });
});

it.each([
  ["watch", () => backend.watch(PATH, true), `/files/watch?${ENCODED}&recursive=true`],
  ["readArchive", () => backend.readArchive(PATH), `/files/archive?${ENCODED}`],
] as const)("%s is a request for whoever reads it", async (_, source, target) => {
  const requests = host(() => new Response("bytes"));
  const opened = await source();
  expect(requests).toEqual([]);
  const body = await openSource(opened, new AbortController().signal);
  expect(await new Response(body).text()).toBe("bytes");
  expect(requests).toMatchObject([{ method: "GET", target, signature: expect.any(String) }]);
});
