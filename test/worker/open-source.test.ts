import { afterEach, expect, it, vi } from "vitest";
import { openOrRecall, openSource } from "../../src/api/open-source.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { ApiError, asApiError } from "../../src/contract/errors.ts";
import { deriveHostKey, ReplayGuard, verifyRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { toProblem } from "../../src/contract/problem.ts";
import { HOST_ID } from "./client.ts";

const SECRET = "a-signing-secret-of-the-test-0123456789";
const sandboxId = newId("sandbox");
const backend = new DockerBackend(sandboxId, 1, { hostId: HOST_ID, url: "http://host.test:7070" }, SECRET);
const signal = new AbortController().signal;
const text = (body: ReadableStream<Uint8Array>) => new Response(body).text();

afterEach(() => vi.restoreAllMocks());

/** A host that answers so; the requests that it got. */
function host(answer: () => Response) {
  const requests: Request[] = [];
  vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
    requests.push(new Request(input as string, init as RequestInit));
    return answer();
  });
  return requests;
}

const refusing = (error: ApiError, status: number) => () => Response.json(toProblem(error), { status });

it("is a request that the host takes as signed, once", async () => {
  const requests = host(() => new Response("bytes"));
  const source = await backend.output("main", "stdout", 7, true);
  expect(requests).toEqual([]);
  expect(await text(await openSource(source, signal))).toBe("bytes");
  const target = `/v1/sandboxes/${sandboxId}/processes/main/stdout?offset=7&follow=true`;
  expect(requests[0]!.url).toBe(`http://host.test:7070${target}`);
  const authorization = requests[0]!.headers.get("x-sandbar-signature");
  const [key, replays] = [await deriveHostKey(SECRET, HOST_ID), new ReplayGuard()];
  const check = () => verifyRequest(key, HOST_ID, { authorization, method: "GET", target }, replays);
  await check();
  await expect(check()).rejects.toThrow("used before");
});

it("asks for events from both offsets", async () => {
  const source = await backend.events("main", { stdout: 3, stderr: 4 });
  expect(source).toMatchObject({
    url: `http://host.test:7070/v1/sandboxes/${sandboxId}/processes/main/events?stdout=3&stderr=4`,
  });
});

it("fails as the host says", async () => {
  host(refusing(new ApiError("output_expired", { extra: { oldest_offset: 9 } }), 410));
  const source = await backend.output("main", "stdout", 0, false);
  const recall = vi.fn();
  const error = await openOrRecall(source, recall, signal).catch(asApiError);
  expect(error).toMatchObject({ code: "output_expired", extra: { oldest_offset: 9 } });
  expect(recall).not.toHaveBeenCalled();
});

it.each([
  ["process_not_found", refusing(new ApiError("process_not_found"), 404)],
  ["sandbox_ended", refusing(new ApiError("sandbox_ended"), 409)],
  ["backend_unavailable", refusing(new ApiError("unauthenticated"), 401)],
  ["backend_unavailable", () => new Response("<html>", { status: 502 })],
  [
    "backend_unavailable",
    () => {
      throw new Error("refused");
    },
  ],
] as const)("is recalled from the object after %s", async (code, answer) => {
  host(answer);
  const recall = vi.fn(async () => ({ kind: "stream" as const, body: new Response("recalled").body! }));
  const source = await backend.output("main", "stdout", 0, false);
  expect(await text(await openOrRecall(source, recall, signal))).toBe("recalled");
  expect(recall).toHaveBeenCalledWith(code);
});

it("ends with its client", async () => {
  const client = new AbortController();
  const requests = host(() => new Response("x"));
  await openSource(await backend.output("main", "stdout", 0, true), client.signal);
  client.abort();
  expect(requests[0]!.signal.aborted).toBe(true);
});

it("gives input and asks for sockets as the host expects it", async () => {
  const requests = host(() => Response.json({ offset: 5, closed: true }));
  const state = await backend.writeStdin("main", new Response("input").body!, { offset: 0, eof: true });
  expect(state).toEqual({ offset: 5, closed: true });
  expect(requests[0]!.url).toContain(`/v1/sandboxes/${sandboxId}/processes/main/stdin?eof=true&offset=0`);
  expect(requests[0]!.headers.get("content-type")).toBe("application/octet-stream");
  await backend.resize("main", { rows: 1, cols: 2 });
  const spec = { attachment_id: "a".repeat(22), stdout_offset: 1, stderr_offset: 2, acks: true };
  await backend.attach("main", spec);
  expect(await requests[1]!.json()).toEqual({ rows: 1, cols: 2 });
  expect(requests[2]!.url).toMatch(/\/processes\/main\/attachments$/);
  expect(await requests[2]!.json()).toEqual(spec);
});
