import { createServer } from "node:http";
import { SignJWT } from "jose";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CONTROL_PLANE_AUDIENCE, signRequest, verifyRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { listening, SignedHost, until } from "./signed-host.ts";

const runtime = new ChildRuntime();
let host: SignedHost;
let box: string;

beforeAll(async () => {
  host = await SignedHost.start(runtime);
  box = await host.sandbox();
});
afterAll(() => host.daemon.close({ stopContainers: true }));

describe("the signature", () => {
  const target = "/v1/info";
  const refused = async (signature: string | null) => {
    const answer = await host.call("GET", target, { signature });
    expect(answer.status).toBe(401);
    expect(answer.json).toMatchObject({ code: "unauthenticated", status: 401 });
    expect(answer.headers["content-type"]).toBe("application/problem+json");
  };

  test("lets a signed call through, in either header", async () => {
    expect((await host.call("GET", target)).json).toMatchObject({ host_id: host.hostId, runtime: "embedded" });
    const authorization = await host.sign("GET", target);
    expect((await host.call("GET", target, { signature: null, headers: { authorization } })).status).toBe(200);
  });
  test("is asked for, also where nothing is", async () => {
    await refused(null);
    await refused("Bearer nonsense");
    expect((await host.call("GET", "/nothing", { signature: null })).status).toBe(401);
    expect((await host.call("GET", `${box}/ports/80/proxy`, { signature: null })).status).toBe(401);
  });
  test("of another key, audience, path, method is refused", async () => {
    await refused(await signRequest("x".repeat(43), host.hostId, "GET", target));
    await refused(await signRequest(host.key, newId("host"), "GET", target));
    await refused(await signRequest(host.key, CONTROL_PLANE_AUDIENCE, "GET", target));
    await refused(await signRequest(host.key, host.hostId, "GET", "/v1/info?x=1"));
    await refused(await signRequest(host.key, host.hostId, "DELETE", target));
  });
  test("is refused when it is old, and the second time", async () => {
    const old = new SignJWT({ htm: "GET", htu: target })
      .setProtectedHeader({ alg: "HS256" })
      .setAudience(host.hostId)
      .setIssuedAt(Math.floor(Date.now() / 1000) - 120)
      .setExpirationTime(Math.floor(Date.now() / 1000) - 90)
      .setJti("old");
    await refused(`Bearer ${await old.sign(new TextEncoder().encode(host.key))}`);
    const once = await host.sign("GET", target);
    expect((await host.call("GET", target, { signature: once })).status).toBe(200);
    await refused(once);
  });
});

describe("requests", () => {
  test("that make no sense get problems", async () => {
    const code = async (method: string, path: string, body?: string) =>
      (await host.call(method, path, body === undefined ? {} : { body })).json.code;
    expect(await code("GET", "/nothing")).toBe("not_found");
    expect(await code("GET", "/v1/sandboxes/nope")).toBe("not_found");
    expect(await code("POST", "/v1/info")).toBe("method_not_allowed");
    expect(await code("POST", `${box}/processes`, "{")).toBe("invalid_request");
    expect(await code("POST", `${box}/processes`, "x".repeat(5 * 1024 * 1024))).toBe("payload_too_large");
    expect(await code("POST", `${box}/processes?wait_ms=-1`, "{}")).toBe("invalid_request");
    expect(await code("GET", `${box}/ports/70000`)).toBe("not_found");
    const invalid = await host.send("POST", `${box}/processes`, { process_id: newId("process"), command: [], env: {} });
    expect(invalid.json.errors).toMatchObject([{ path: "command" }]);
  });
});

describe("reports", () => {
  test("tell what runs, at once when something ends, and reap what is ordered", async () => {
    const reports: { url: string; info: object; containers: { sandbox_id: string; running: boolean }[] }[] = [];
    let reap: object[] = [];
    let key = "";
    const app = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      const { authorization } = request.headers;
      await verifyRequest(key, CONTROL_PLANE_AUDIENCE, {
        authorization,
        method: request.method!,
        target: request.url!,
      });
      reports.push(JSON.parse(body));
      response.end(JSON.stringify({ reap }));
    });
    const mine = new ChildRuntime();
    const port = await listening(app);
    const reporting = await SignedHost.start(mine, { controlPlaneUrl: `http://127.0.0.1:${port}` });
    key = reporting.key;
    await until(() => reports.length > 0, 10_000);
    expect(reports[0]).toMatchObject({ url: reporting.daemon.url, info: { host_id: reporting.hostId } });
    const spec = reporting.spec();
    await reporting.put(spec);
    const before = Date.now();
    reap = [{ sandbox_id: spec.sandbox_id, generation: 1 }];
    mine.started[0]!.end(7);
    await until(() => reports.at(-1)!.containers.some((container) => !container.running), 1_000);
    expect(Date.now() - before).toBeLessThan(1_000);
    await until(async () => (await reporting.call("GET", `/v1/sandboxes/${spec.sandbox_id}`)).json.kind === "gone");
    await reporting.daemon.close({ stopContainers: true });
    app.close();
  });
});
