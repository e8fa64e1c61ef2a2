import { env } from "cloudflare:test";
import { beforeAll, describe, expect, it } from "vitest";
import { ImageCatalog } from "../../src/catalog/images.ts";
import { SCOPES } from "../../src/contract/key.ts";
import { call, connectHost, newKey, operations, problemOf } from "./client.ts";
import { bodyFor, queryFor } from "./enough.ts";

const IMAGE_ID = "im-bbbbbbbbbbbbbbbbbbbbbb";

const matrix = await operations();
const withKey = matrix.filter(({ scope }) => scope !== undefined);

let keys: Record<string, string>;
let sandboxId: string;
let secretId: string;
let volumeId: string;

beforeAll(async () => {
  await connectHost();
  keys = {
    read: (await newKey(["read"])).key,
    write: (await newKey(["write"])).key,
    otherAdmin: (await newKey(["admin"], "other")).key,
  };
  const created = await call("POST", "/v1/sandboxes", { json: {} });
  expect(created.status).toBe(201);
  sandboxId = ((await created.json()) as { sandbox_id: string }).sandbox_id;
  const secret = await call("POST", "/v1/secrets", { json: { name: "ours", values: {} } });
  secretId = ((await secret.json()) as { secret_id: string }).secret_id;
  const volume = await call("POST", "/v1/volumes", { json: { name: "ours" } });
  volumeId = ((await volume.json()) as { volume_id: string }).volume_id;
  const image = {
    imageId: IMAGE_ID,
    environment: "main",
    sandboxId,
    name: null,
    status: "ready",
    error: null,
    parent: null,
    backend: "docker",
    runtime: null,
    digest: null,
    hostId: "ho-x",
    snapshotId: null,
    size: 1,
  } as const;
  await new ImageCatalog(env.DB).add({ ...image, createdAt: Date.now(), expiresAt: Date.now() + 60_000 });
});

/** The path with real things of the environment `main` in it. */
const fill = (path: string) =>
  path
    .replace("{sandbox_id}", sandboxId)
    .replace("{process_id}", "main")
    .replace("{attachment_id}", "a".repeat(22))
    .replace("{image_id}", IMAGE_ID)
    .replace("{secret_id}", secretId)
    .replace("{volume_id}", volumeId)
    .replace("{key_id}", "ak-cccccccccccccccccccccc")
    .replace("{host_id}", "ho-aaaaaaaaaaaaaaaaaaaaaa");

it("covers the operations of the API", () => {
  expect(withKey.length).toBeGreaterThanOrEqual(41);
  expect(matrix.filter(({ scope }) => scope === undefined).map(({ operationId }) => operationId)).toEqual([
    "reportHost",
    "attachHost",
  ]);
});

it("asks for what the method does", () => {
  for (const { method, path, scope, operationId, headers } of withKey) {
    const isRead = method === "GET" && !headers["upgrade"];
    const wanted = /^\/v1\/(keys|hosts|secrets\/rewrap)/.test(path) ? "admin" : isRead ? "read" : "write";
    expect(scope, operationId).toBe(wanted);
  }
});

describe.each(matrix)("$method $path", ({ method, path, scope, headers }) => {
  const bad: [string, string | undefined][] = [
    ["no key", undefined],
    ["another scheme", "Basic YWRtaW46YWRtaW4="],
    ["a bare word", "Bearer"],
    ["two words", "Bearer a b"],
    ["an unknown key", "Bearer sk-0000000000000000000000000000000000000000000"],
    ["the beginning of the key", `Bearer ${env.ADMIN_KEY!.slice(0, -1)}`],
  ];
  it.each(bad)("refuses %s with 401, before it reads the request", async (_, authorization) => {
    const response = await call(method, fill(path), {
      key: null,
      headers: {
        ...headers,
        ...(authorization !== undefined && { authorization }),
        "content-type": "application/json",
      },
      ...(method !== "GET" && { body: "{not json" }),
    });
    expect(await problemOf(response)).toMatchObject({ status: 401, code: "unauthenticated" });
    expect(response.headers.get("www-authenticate")).toMatch(/^Bearer/);
    expect(response.headers.get("x-request-id")).toBeTruthy();
  });

  it("refuses a key of less scope with 403", async () => {
    if (scope === undefined || scope === "read") return;
    const key = keys[SCOPES[SCOPES.indexOf(scope) - 1]!]!;
    const response = await call(method, fill(path), { key, headers });
    expect(await problemOf(response)).toMatchObject({ status: 403, code: "forbidden" });
  });
});

describe("a key of another environment", () => {
  it.each(withKey.filter(({ path }) => /\{(sandbox|image|secret|volume)_id\}/.test(path)))(
    "finds nothing at $method $path",
    async (operation) => {
      const { method, path, takesJson, headers } = operation;
      const response = await call(method, fill(path) + queryFor(operation), {
        key: keys["otherAdmin"]!,
        headers,
        ...(takesJson ? { json: bodyFor(operation) } : method === "PUT" && { body: "x" }),
      });
      expect(await problemOf(response)).toMatchObject({ status: 404 });
    },
  );

  it("touches no host", async () => {
    for (const [method, path] of [
      ["GET", "/v1/hosts"],
      ["POST", "/v1/hosts"],
      ["PATCH", "/v1/hosts/ho-aaaaaaaaaaaaaaaaaaaaaa"],
      ["POST", "/v1/hosts/ho-aaaaaaaaaaaaaaaaaaaaaa/rotate-key"],
      ["DELETE", "/v1/hosts/ho-aaaaaaaaaaaaaaaaaaaaaa"],
    ] as const) {
      const response = await call(method, path, {
        key: keys["otherAdmin"]!,
        ...(path === "/v1/hosts" && method === "POST" && { json: { name: "x" } }),
        ...(method === "PATCH" && { json: {} }),
      });
      expect(await problemOf(response)).toMatchObject({ status: 403 });
    }
  });

  it("does not touch the deployment's keys", async () => {
    const response = await call("POST", "/v1/secrets/rewrap", { key: keys["otherAdmin"]! });
    expect(await problemOf(response)).toMatchObject({ status: 403 });
  });

  it("lists nothing of ours", async () => {
    for (const path of ["/v1/sandboxes", "/v1/images", "/v1/secrets", "/v1/volumes"]) {
      const response = await call("GET", path, { key: keys["otherAdmin"]! });
      expect(await response.json()).toEqual({ data: [] });
    }
  });
});

it("lets a read key read and a write key write", async () => {
  expect((await call("GET", `/v1/sandboxes/${sandboxId}`, { key: keys["read"]! })).status).toBe(200);
  expect((await call("GET", `/v1/sandboxes/${sandboxId}`, { key: keys["write"]! })).status).toBe(200);
  expect((await call("POST", "/v1/sandboxes", { key: keys["write"]!, json: {} })).status).toBe(201);
});

it("needs no key for its documentation", async () => {
  for (const path of ["/health", "/openapi.json", "/docs"])
    expect((await call("GET", path, { key: null })).status).toBe(200);
});
