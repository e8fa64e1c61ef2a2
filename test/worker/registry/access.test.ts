import { createExecutionContext, env } from "cloudflare:test";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { handle } from "../../../src/api/app.ts";
import { signGrant, type RegistryGrant } from "../../../src/contract/registry.ts";
import { ADMIN_KEY, newKey, ORIGIN } from "../client.ts";
import {
  beginUpload,
  digestOf,
  failureOf,
  newEnvironment,
  oci,
  pushBlob,
  pushImage,
  putManifest,
  type PushedImage,
  randomBytes,
} from "./oci-client.ts";

let environment: string;
let token: string;
let repository: string;
let readKey: string;
let image: PushedImage;
beforeAll(async () => {
  ({ environment, token, repository } = await newEnvironment());
  readKey = (await newKey(["read"], environment)).key;
  image = await pushImage(repository, token, "1");
});

const grant = (wanted: Pick<RegistryGrant, "access"> & { repository?: string; tag?: string }, lifetimeS = 60) =>
  signGrant(env.SIGNING_SECRET, { environment, repository, ...wanted } as RegistryGrant, lifetimeS);
const basic = (user: string, key: string) => ({ authorization: `Basic ${btoa(`${user}:${key}`)}` });

/** Every endpoint, filled with real things, and what it takes. */
const operations = (): [method: string, path: string, scope: "read" | "write"][] => {
  const base = `/v2/${repository}`;
  const layer = image.manifest.layers[0]!.digest;
  const upload = `${base}/blobs/uploads/${crypto.randomUUID()}`;
  return [
    ["GET", "/v2/_catalog", "read"],
    ["GET", `${base}/manifests/1`, "read"],
    ["HEAD", `${base}/manifests/${image.digest}`, "read"],
    ["GET", `${base}/blobs/${layer}`, "read"],
    ["HEAD", `${base}/blobs/${layer}`, "read"],
    ["GET", `${base}/tags/list`, "read"],
    ["GET", `${base}/referrers/${image.digest}`, "read"],
    ["PUT", `${base}/manifests/2`, "write"],
    ["DELETE", `${base}/manifests/none`, "write"],
    ["DELETE", `${base}/blobs/${layer}`, "write"],
    ["POST", `${base}/blobs/uploads/`, "write"],
    ["GET", upload, "write"],
    ["PATCH", upload, "write"],
    ["PUT", upload, "write"],
    ["DELETE", upload, "write"],
  ];
};

describe("without a right to be there", () => {
  it("everything answers 401 and asks for a password, before it says anything else", async () => {
    const all = [["GET", "/v2/"], ["GET", "/v2"], ["GET", "/v2/no/such/path"], ["POST", "/v2/"], ...operations()];
    const bad: Record<string, string>[] = [
      {},
      { authorization: "Bearer sk-unknown" },
      { authorization: "Bearer a.b.c" },
      { authorization: "Basic !!!" },
      { authorization: `Basic ${btoa("no colon")}` },
      basic("x", `${token}x`),
      basic(token, ""),
      { authorization: `Bearer ${await grant({ access: "pull" }, -1)}` },
      { authorization: `Bearer ${await signGrant("another secret", { access: "pull", environment, repository }, 60)}` },
    ];
    for (const [method, path] of all) {
      for (const headers of bad) {
        const response = await oci(method!, path!, { token: null, headers });
        expect(response.status, `${method} ${path}`).toBe(401);
        expect(response.headers.get("www-authenticate")).toBe('Basic realm="sandbar"');
        expect(response.headers.get("docker-distribution-api-version")).toBe("registry/2.0");
        if (method !== "HEAD") expect((await failureOf(response)).code).toBe("UNAUTHORIZED");
      }
    }
  });
});

describe("an API key", () => {
  it("is taken as a bearer token, or as the password of anybody", async () => {
    const ways = [
      { authorization: `Bearer ${token}` },
      basic("anybody", token),
      basic("", token),
      basic("x", ADMIN_KEY),
    ];
    for (const headers of ways) {
      const response = await oci("GET", "/v2/", { token: null, headers });
      expect([response.status, await response.text()]).toEqual([200, "{}"]);
    }
  });

  it("reads with the scope read, and changes nothing with it", async () => {
    for (const [method, path, scope] of operations()) {
      const response = await oci(method, path, { token: readKey });
      if (scope === "read") expect(response.status, `${method} ${path}`).toBe(200);
      else expect(await failureOf(response), `${method} ${path}`).toMatchObject({ status: 403, code: "DENIED" });
    }
    for (const [method, path] of operations()) {
      expect([401, 403], `${method} ${path}`).not.toContain((await oci(method, path, { token })).status);
    }
  });

  it("sees nothing of another environment, whether there is something or not", async () => {
    const other = await newEnvironment();
    for (const [method, path] of operations().filter(([, path]) => path !== "/v2/_catalog")) {
      const answers = await Promise.all(
        [path, path.replace(repository, `${environment}/none`)].map(async (target) => {
          const response = await oci(method, target, { token: other.token });
          return [response.status, method === "HEAD" ? "" : (await failureOf(response)).code];
        }),
      );
      expect(answers, `${method} ${path}`).toEqual(
        Array.from({ length: 2 }, () => [404, method === "HEAD" ? "" : "NAME_UNKNOWN"]),
      );
    }
    expect(await (await oci("GET", "/v2/_catalog", { token: other.token })).json()).toEqual({ repositories: [] });
  });

  it("reads the snapshots and writes none", async () => {
    const snapshots = `${environment}/snapshots`;
    const pushed = await grant({ access: "push", repository: snapshots, tag: "im-1" });
    await pushImage(snapshots, pushed, "im-1");
    expect((await oci("GET", `/v2/${snapshots}/manifests/im-1`, { token: readKey })).status).toBe(200);
    const writes = operations().filter(([, , scope]) => scope === "write");
    for (const [method, path] of writes) {
      const refused = await failureOf(await oci(method, path.replace(repository, snapshots), { token }));
      expect(refused).toMatchObject({ status: 403, code: "DENIED", message: expect.stringContaining("/v1/images") });
    }
  });
});

describe("a grant", () => {
  it("to pull reads blobs of its repository and manifests by their digest, and nothing else", async () => {
    const pull = await grant({ access: "pull" });
    expect((await oci("GET", "/v2/", { token: pull })).status).toBe(200);
    for (const [method, path, scope] of operations()) {
      const isGranted = scope === "read" && /blobs|manifests\/sha256:/.test(path);
      const response = await oci(method, path, { token: pull });
      expect(response.status, `${method} ${path}`).toBe(isGranted ? 200 : 403);
      if (isGranted) {
        const elsewhere = await oci(method, path.replace(repository, `${environment}/other`), { token: pull });
        expect(elsewhere.status, `${method} ${path}`).toBe(403);
      }
    }
  });

  it("to push writes blobs, its one tag, and manifests by digest", async () => {
    const push = await grant({ access: "push", tag: "mine" });
    await pushImage(repository, push, "mine");
    await pushImage(repository, push);
    expect((await oci("GET", `/v2/${repository}/manifests/mine`, { token: push })).status).toBe(200);
    const path = await beginUpload(repository, push);
    expect((await oci("DELETE", path, { token: push })).status).toBe(204);
    expect((await putManifest(repository, push, "other", image.manifest)).status).toBe(403);
    expect((await oci("DELETE", `/v2/${repository}/manifests/mine`, { token: push })).status).toBe(403);
    const digest = await pushBlob(repository, token, randomBytes(5));
    expect((await oci("DELETE", `/v2/${repository}/blobs/${digest}`, { token: push })).status).toBe(403);
    expect((await oci("POST", `/v2/${environment}/other/blobs/uploads/`, { token: push })).status).toBe(403);
    expect((await oci("POST", "/v2/main/other/blobs/uploads/", { token: push })).status).toBe(404);
  });
});

describe("a path", () => {
  it("that is none is 404, a method that it does not take 405, a name that is none 400", async () => {
    expect(await failureOf(await oci("GET", "/v2/nothing", { token }))).toMatchObject({ status: 404 });
    const wrong = await oci("POST", `/v2/${repository}/tags/list`, { token });
    expect([wrong.status, wrong.headers.get("allow"), (await failureOf(wrong)).code]).toEqual([
      405,
      "GET",
      "UNSUPPORTED",
    ]);
    for (const name of [
      `${environment}/UPPER`,
      `${environment}/a..b`,
      environment,
      `${environment}/${"a".repeat(255)}`,
    ]) {
      const response = await oci("GET", `/v2/${name}/tags/list`, { token });
      expect(await failureOf(response), name).toMatchObject({ status: 400, code: "NAME_INVALID" });
    }
  });

  it("takes names like the registry's own words", async () => {
    for (const name of [
      `${environment}/blobs/uploads`,
      `${environment}/manifests/tags__x`,
      `${environment}/v2.0/a-b`,
    ]) {
      const { digest } = await pushImage(name, token, "1");
      const response = await oci("HEAD", `/v2/${name}/manifests/1`, { token });
      expect([response.status, response.headers.get("docker-content-digest")], name).toEqual([200, digest]);
    }
  });
});

it("says 503 and when to come again while the catalog of keys does not answer", async () => {
  const said = vi.spyOn(console, "error").mockReturnValue(undefined);
  const prepare = () => {
    throw new Error("D1_ERROR: it is away");
  };
  const headers = { authorization: `Bearer sk-${await digestOf("nobody")}` };
  const request = new Request(`${ORIGIN}/v2/`, { headers });
  const response = await handle(
    request,
    { ...env, DB: { prepare } as unknown as D1Database },
    createExecutionContext(),
  );
  expect([response.status, response.headers.get("retry-after")]).toEqual([503, "2"]);
  expect((await failureOf(response)).code).toBe("UNKNOWN");
  expect(said).toHaveBeenCalled();
  vi.restoreAllMocks();
});
