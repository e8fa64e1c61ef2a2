import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type Entrance, Gateway, type Visit } from "../../../src/host/registry/gateway.ts";
import { EngineStandIn, REPOSITORY } from "./engine-stand-in.ts";
import { digestOf, RegistryDouble, TOKEN } from "./registry-double.ts";

const MEBIBYTE = 1024 * 1024;

let registry: RegistryDouble;
let gateway: Gateway;
beforeEach(async () => {
  registry = await RegistryDouble.start();
  gateway = new Gateway(registry.url);
});
afterEach(async () => {
  await gateway.close();
  registry.close();
});

const visit = <T>(work: (engine: EngineStandIn, visit: Visit, entrance: Entrance) => Promise<T>): Promise<T> =>
  gateway.admit({ repository: REPOSITORY, token: TOKEN }, (entrance, granted) =>
    work(new EngineStandIn(entrance), granted, entrance),
  );
const errors = (text: string) => (JSON.parse(text) as { errors: object[] }).errors;

describe("the gateway", () => {
  it("lets in whoever has the password of a visit, while that goes on", async () => {
    const late = await visit(async (engine, _, { auth, name }) => {
      expect(name).toBe(`${auth.serveraddress}/${REPOSITORY}`);
      expect(name).toMatch(/^127\.0\.0\.1:\d+\//);
      expect(await engine.call("GET", "/v2/")).toMatchObject({ status: 200, text: "{}" });
      const wrong = `Basic ${btoa(`${auth.username}:${auth.password.replace(/.$/, "-")}`)}`;
      for (const authorization of ["", wrong, "Basic Og==", `Basic ${btoa("someone:")}`, `Bearer ${TOKEN}`]) {
        const answer = await engine.call("GET", "/v2/", { headers: { authorization } });
        expect(answer).toMatchObject({ status: 401, headers: { "www-authenticate": 'Basic realm="sandbar host"' } });
        expect(errors(answer.text)).toMatchObject([{ code: "UNAUTHORIZED" }]);
      }
      return engine;
    });
    for (const path of ["/v2/", `/v2/${REPOSITORY}/manifests/x`])
      expect((await late.call("GET", path)).status).toBe(401);
    await visit(async () => expect((await late.call("GET", "/v2/")).status).toBe(401));
    expect(registry.requests).toEqual([]);
  });

  it.each(["/v2/main/other/manifests/x", "/v2/main/snapshots2/manifests/x", "/v2/_catalog", "/v2/main", "/"])(
    "knows no other repository than the granted one: %s",
    async (path) => {
      const { status, text } = await visit((engine) => engine.call("GET", path));
      expect([status, errors(text)]).toMatchObject([404, [{ code: "NAME_UNKNOWN" }]]);
      expect(registry.requests).toEqual([]);
    },
  );

  it("does not let one out of the granted repository by dots", async () => {
    const path = `/v2/${REPOSITORY}/../other/manifests/x`;
    expect((await visit((engine) => engine.call("GET", path))).status).toBe(404);
    expect(registry.requests).toEqual([]);
  });

  it("takes a blob in several requests, the last bytes with its end, and says how far it is", async () => {
    const bytes = randomBytes(30_000);
    await visit(async (engine) => {
      const location = await engine.begin();
      expect((await engine.call("PATCH", location, { body: bytes.subarray(0, 10_000) })).status).toBe(202);
      expect((await engine.call("GET", location)).headers.range).toBe("0-9999");
      await engine.call("PATCH", location, { body: bytes.subarray(10_000, 20_000) });
      const end = { body: bytes.subarray(20_000) };
      expect((await engine.call("PUT", `${location}?digest=${digestOf(bytes)}`, end)).status).toBe(201);
      expect((await engine.call("PATCH", location, end)).status).toBe(404);
    });
    expect(registry.blobs.get(digestOf(bytes))?.equals(bytes)).toBe(true);
  });

  it("mounts what the registry has, and begins an upload of what it has not", async () => {
    const digest = registry.put(randomBytes(10));
    await visit(async (engine) => {
      const mount = (of: string) => engine.call("POST", `/v2/${REPOSITORY}/blobs/uploads/?mount=${of}&from=main/x`);
      expect(await mount(digest)).toMatchObject({ status: 201, headers: { "docker-content-digest": digest } });
      expect((await mount(digestOf("other"))).status).toBe(202);
    });
  });

  it("gives uploads up that are not ended with the visit, and those that are given up", async () => {
    await visit(async (engine) => {
      const [one, other] = [await engine.begin(), await engine.begin()];
      await engine.call("PATCH", one, { body: randomBytes(100) });
      expect((await engine.call("DELETE", other)).status).toBe(204);
      expect(registry.sessions.size).toBe(1);
    });
    await expect.poll(() => registry.sessions.size).toBe(0);
  });

  it("passes on reads, whole and in part, with what they say", async () => {
    const bytes = randomBytes(1000);
    const digest = registry.put(bytes);
    const path = `/v2/${REPOSITORY}/blobs/${digest}`;
    const known = { "docker-content-digest": digest, "accept-ranges": "bytes", etag: `"${digest}"` };
    await visit(async (engine) => {
      const head = await engine.call("HEAD", path);
      expect(head).toMatchObject({ status: 200, headers: { ...known, "content-length": "1000" }, text: "" });
      expect((await engine.call("GET", path)).body.equals(bytes)).toBe(true);
      const part = await engine.call("GET", path, { headers: { range: "bytes=10-19" } });
      const range = { "content-range": "bytes 10-19/1000", "content-length": "10" };
      expect(part).toMatchObject({ status: 206, headers: { ...known, ...range }, body: bytes.subarray(10, 20) });
    });
    expect(registry.requests.map(({ headers }) => headers.authorization)).toEqual(Array(3).fill(`Bearer ${TOKEN}`));
  });

  it("passes on manifests with their type", async () => {
    const config = { digest: registry.put(Buffer.from("{}")) };
    const body = Buffer.from(JSON.stringify({ config, layers: [] }));
    const type = "application/vnd.oci.image.manifest.v1+json";
    const path = `/v2/${REPOSITORY}/manifests/x`;
    await visit(async (engine) => {
      registry.next("PUT", { kind: "lost" });
      const put = await engine.call("PUT", path, { body, headers: { "content-type": type } });
      expect(put).toMatchObject({ status: 201, headers: { "docker-content-digest": digestOf(body) } });
      const got = await engine.call("GET", path, { headers: { accept: type } });
      expect(got).toMatchObject({ status: 200, headers: { "content-type": type }, body });
      expect(registry.of("GET")[0]!.headers.accept).toBe(type);
      expect((await engine.call("GET", `/v2/${REPOSITORY}/manifests/y`)).status).toBe(404);
    });
  });

  it("lets go of the registry when the engine leaves in the middle", async () => {
    const path = `/v2/${REPOSITORY}/blobs/${registry.put(randomBytes(64 * MEBIBYTE))}`;
    await visit(async (engine) => {
      const response = await engine.open("GET", path);
      response.once("data", () => response.destroy());
      await expect.poll(() => registry.requests[0]!.isLeft).toBe(true);
    });
    expect(registry.requests.length).toBe(1);
  });

  it("asks no more on behalf of an engine that has left", async () => {
    const path = `/v2/${REPOSITORY}/blobs/${digestOf("x")}`;
    registry.next("GET", { kind: "silent" });
    registry.next("HEAD", { kind: "refused", status: 503 }, 1000);
    await visit(async (engine) => {
      const leave = new AbortController();
      const asked = ["GET", "HEAD"].map((method) => engine.call(method, path, { signal: leave.signal }));
      await expect.poll(() => registry.of("HEAD").length).toBe(2);
      leave.abort();
      await Promise.allSettled(asked);
      await expect.poll(() => registry.of("GET")[0]!.isLeft).toBe(true);
      await new Promise((wake) => setTimeout(wake, 1000));
    });
    expect([registry.of("GET").length, registry.of("HEAD").length]).toEqual([1, 2]);
  });

  it("gives up an upload in whose middle the engine leaves, without a word", async () => {
    const said = vi.spyOn(console, "error");
    await visit(async (engine) => {
      const endless = async function* () {
        for (let i = 0; i < 50; i++) yield randomBytes(MEBIBYTE);
        throw new Error("the engine has gone");
      };
      const sent = engine.call("PATCH", await engine.begin(), { body: endless() });
      await expect(sent).rejects.toThrow("the engine has gone");
    });
    await expect.poll(() => registry.sessions.size).toBe(0);
    expect(registry.blobs.size).toBe(0);
    expect(said).not.toHaveBeenCalled();
    said.mockRestore();
  });

  it("breaks off where the registry does, so that the engine can tell", async () => {
    const path = `/v2/${REPOSITORY}/blobs/${registry.put(randomBytes(1000))}`;
    registry.next("GET", { kind: "broken", after: 100 });
    await expect(visit((engine) => engine.call("GET", path))).rejects.toThrow(/aborted|hang up/);
  });

  it("gives a manifest whole, though the registry breaks off", async () => {
    const body = randomBytes(1000);
    registry.manifests.set("x", { type: "application/json", body });
    registry.next("GET", { kind: "broken", after: 100 }, 2);
    expect(await visit((engine) => engine.call("GET", `/v2/${REPOSITORY}/manifests/x`))).toMatchObject({ body });
  });

  it.each([
    ["GET", 403, "DENIED"],
    ["POST", 401, "UNAUTHORIZED"],
    ["PUT", 413, "UNKNOWN"],
  ])("gives the registry's refusal of a %s with %i and its words", async (method, status, code) => {
    registry.next(method, { kind: "refused", status, code: "DENIED", message: "This is not yours." });
    const path = `/v2/${REPOSITORY}/${method === "POST" ? "blobs/uploads/" : "manifests/x"}`;
    const answer = await visit((engine) => engine.call(method, path));
    expect([answer.status, errors(answer.text)]).toEqual([status, [{ code, message: "This is not yours. (DENIED)" }]]);
    expect(answer.headers["content-type"]).toBe("application/json");
  });

  it("says of a wrong digest what the registry says", async () => {
    await visit(async (engine) => {
      const location = await engine.begin();
      const answer = await engine.call("PUT", `${location}?digest=${digestOf("x")}`, { body: randomBytes(9) });
      expect([answer.status, answer.text]).toEqual([400, expect.stringContaining("DIGEST_INVALID")]);
    });
  });
});
