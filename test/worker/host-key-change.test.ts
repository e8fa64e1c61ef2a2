import { runInDurableObject } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { HostPlacement } from "../../src/backends/backend.ts";
import { DockerBackend } from "../../src/backends/docker/docker-backend.ts";
import { ApiError, asApiError } from "../../src/contract/errors.ts";
import { REFUSED_HEADER } from "../../src/contract/host-answer.ts";
import { deriveHostKey, verifyRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { toProblem } from "../../src/contract/problem.ts";
import { HostLink } from "../../src/sandbox/host-link.ts";
import type { Lifecycle } from "../../src/sandbox/lifecycle.ts";
import { SandboxStore } from "../../src/sandbox/store.ts";
import { connectHost, HOST_ID, hostInfo, forgetHosts, reportHost } from "./client.ts";
import { exec, objectOf, startSandbox } from "./sandboxes.ts";

const SECRET = "a-signing-secret-of-the-test-0123456789";
const URL_BASE = "http://host.test:7070";
const sandboxId = newId("sandbox");

afterEach(() => vi.restoreAllMocks());

/** A host that has one key only, and what it took; `refused` counts the rest. */
class OneKeyHost {
  version = 2;
  refused = 0;
  readonly taken: { method: string; url: string; body: string }[] = [];
  answer = (): Response => Response.json({ open: true });

  constructor() {
    vi.spyOn(globalThis, "fetch").mockImplementation(async (input, init) => {
      const request = new Request(input as string, init as RequestInit);
      const { pathname, search } = new URL(request.url);
      const findKey = async (version: number) =>
        version === this.version ? deriveHostKey(SECRET, HOST_ID, version) : undefined;
      const authorization = request.headers.get("x-sandbar-signature");
      const signed = { authorization, method: request.method, target: pathname + search };
      try {
        await verifyRequest(findKey, HOST_ID, signed);
      } catch {
        this.refused += 1;
        const problem = toProblem(new ApiError("unauthenticated"));
        return Response.json(problem, { status: 401, headers: { [REFUSED_HEADER]: "signature" } });
      }
      this.taken.push({ method: request.method, url: request.url, body: await request.text() });
      return this.answer();
    });
  }
}

describe("a host that has another key than the sandbox knows", () => {
  let host: OneKeyHost;
  let now: HostPlacement | undefined;
  const relocate = vi.fn(async () => now);
  let backend: DockerBackend;

  beforeEach(() => {
    host = new OneKeyHost();
    now = { kind: "host", hostId: HOST_ID, url: URL_BASE, keyVersion: 2 };
    relocate.mockClear();
    backend = new DockerBackend(sandboxId, 1, { hostId: HOST_ID, url: URL_BASE }, SECRET, relocate);
  });

  it("is asked again with that one, and from then on at once", async () => {
    expect(await backend.probePort(80)).toBe(true);
    expect(await backend.probePort(81)).toBe(true);
    expect([host.refused, host.taken.length, relocate.mock.calls.length]).toEqual([1, 2, 1]);
  });

  it("gets the whole body again", async () => {
    host.answer = () => new Response(null, { status: 204 });
    await backend.resize("main", { rows: 3, cols: 4 });
    expect(host.taken.map(({ body }) => JSON.parse(body))).toEqual([{ rows: 3, cols: 4 }]);
  });

  it("is asked again by a tunnel, too", async () => {
    host.answer = () => new Response("page");
    const response = await backend.connect(80, new Request("http://80-x.localhost/"));
    expect([response.status, await response.text()]).toEqual([200, "page"]);
  });

  it("refuses a stream so that it can be tried again, and takes the next one", async () => {
    host.answer = () => new Response(null, { status: 204 });
    const error = await backend.writeFile("/f", new Response("one").body!, {}).catch(asApiError);
    expect(error).toMatchObject({ code: "backend_unavailable", retryAfter: 5 });
    expect(host.taken).toEqual([]);
    await backend.writeFile("/f", new Response("two").body!, {});
    expect(host.taken.map(({ body }) => body)).toEqual(["two"]);
    const post = new Request("http://80-x.localhost/", { method: "POST", body: "form" });
    host.version = 3;
    now = { ...now!, keyVersion: 3 };
    await expect(backend.connect(80, post)).rejects.toMatchObject({ code: "backend_unavailable" });
    expect(host.taken.length).toBe(1);
  });

  it("is not asked again where nothing better is known", async () => {
    for (const place of [
      undefined,
      { kind: "host", hostId: HOST_ID, url: URL_BASE },
      { kind: "host", hostId: "ho-cccccccccccccccccccccc", url: URL_BASE, keyVersion: 2 },
    ] as const) {
      now = place;
      host.refused = 0;
      await expect(backend.probePort(80)).rejects.toMatchObject({ code: "backend_unavailable", retryAfter: 5 });
      expect(host.refused).toBe(1);
    }
    relocate.mockRejectedValueOnce(new Error("D1_ERROR: away"));
    await expect(backend.probePort(80)).rejects.toMatchObject({ code: "backend_unavailable" });
  });

  it("is not asked for ever", async () => {
    now = { ...now!, keyVersion: 7 };
    await expect(backend.probePort(80)).rejects.toMatchObject({ code: "backend_unavailable" });
    expect(host.refused).toBe(2);
  });

  it("is not taken for an app that asks for a password", async () => {
    host.version = 1;
    host.answer = () => Response.json(toProblem(new ApiError("unauthenticated")), { status: 401 });
    const response = await backend.connect(80, new Request("http://80-x.localhost/"));
    expect([response.status, relocate.mock.calls.length]).toEqual([401, 0]);
  });
});

describe("a sandbox's record", () => {
  const placementOf = (id: string) =>
    runInDurableObject(objectOf(id), (_, { storage }) => new SandboxStore(storage).record?.placement);
  const reconcile = (id: string) =>
    runInDurableObject(objectOf(id), (object) => (object as unknown as { reconcile(): Promise<void> }).reconcile());
  const hasKey = (keyVersion: number, url = "http://127.0.0.1:9") =>
    reportHost({ url, info: hostInfo(HOST_ID), containers: [] }, Date.now(), keyVersion);

  beforeEach(async () => {
    await forgetHosts();
    await connectHost();
  });

  it("is of the key that the host has at the start", async () => {
    await hasKey(2);
    expect(await placementOf(await startSandbox())).toMatchObject({ hostId: HOST_ID, keyVersion: 2 });
  });

  it("follows the host's key and address", async () => {
    const id = await startSandbox();
    await hasKey(2);
    await reconcile(id);
    expect(await placementOf(id)).toMatchObject({ url: "http://127.0.0.1:9", keyVersion: 2 });
    await hasKey(2, "http://127.0.0.1:8");
    await reconcile(id);
    expect(await placementOf(id)).toMatchObject({ url: "http://127.0.0.1:8", keyVersion: 2 });
  });

  it("follows when the bytes of an ended process were refused: they are asked for anew, not given up", async () => {
    const id = await startSandbox();
    const { process_id: processId } = await exec(id, { command: ["echo", "hello"] });
    const request = { processId, stream: "stdout", offset: 0, follow: false } as const;
    const scope = { environment: "main" };
    const recalled = await objectOf(id).recallOutput(scope, request, "backend_unavailable");
    expect(recalled).toMatchObject({ ok: false });
    await hasKey(2);
    const anew = await objectOf(id).recallOutput(scope, request, "backend_unavailable");
    expect(anew).toMatchObject({ ok: true });
    expect(await placementOf(id)).toMatchObject({ keyVersion: 2 });
  });

  it("keeps what else it says of its place, and tells everybody who asked that it has changed", async () => {
    const placement: HostPlacement = { kind: "host", hostId: HOST_ID, url: URL_BASE, gpus: ["GPU-1"] };
    const lifecycle = {
      record: { placement },
      update(changes: { placement: HostPlacement }) {
        this.record = changes;
      },
    };
    let now: HostPlacement | undefined = { kind: "host", hostId: HOST_ID, url: URL_BASE, keyVersion: 2 };
    const link = new HostLink(lifecycle as unknown as Lifecycle, unopened, async () => now);
    expect(await Promise.all([link.relocate(), link.relocate()])).toEqual([true, true]);
    expect(lifecycle.record.placement).toEqual({ ...placement, keyVersion: 2 });
    expect(await link.relocate()).toBe(false);
    now = undefined;
    expect(await link.relocate()).toBe(false);
    expect(lifecycle.record.placement).toEqual({ ...placement, keyVersion: 2 });
  });
});

const unopened = () => {
  throw new Error("Nothing is opened here.");
};
