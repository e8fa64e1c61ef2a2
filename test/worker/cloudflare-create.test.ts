import { env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { unsupportedFields } from "../../src/backends/unsupported-fields.ts";
import { CLOUDFLARE_CAPABILITIES } from "../../src/backends/cloudflare/capabilities.ts";
import { instanceTypeFor } from "../../src/backends/cloudflare/instance-types.ts";
import { ImageCatalog } from "../../src/catalog/images.ts";
import type { SandboxCreate } from "../../src/contract/sandbox.ts";
import { call, connectHost, problemOf } from "./client.ts";

describe("what Cloudflare Containers can do", () => {
  it.each<[SandboxCreate, string[]]>([
    [{}, []],
    [{ cpu: 4, memory: 12_288, region: "apac", block_network: true, pty: { rows: 24, cols: 80 } }, []],
    [{ cpu: 4.01 }, ["cpu"]],
    [{ memory: 12_289 }, ["memory"]],
    [{ gpu: "T4" }, ["gpu"]],
    [{ unencrypted_ports: [22] }, ["unencrypted_ports"]],
    [{ unencrypted_ports: [] }, []],
    [{ encrypted_ports: [8080, 39_717] }, ["encrypted_ports"]],
    [{ region: "mars" }, ["region"]],
    [{ outbound_cidr_allowlist: [] }, []],
    [{ outbound_cidr_allowlist: [], outbound_domain_allowlist: [], inbound_cidr_allowlist: ["10.0.0.0/8"] }, []],
    [{ encrypted_ports: [80], inbound_cidr_allowlist: ["10.0.0.0/8"], tunnel_auth: "token" }, []],
    [{ outbound_cidr_allowlist: ["10.0.0.0/8"] }, ["outbound_cidr_allowlist"]],
    [{ outbound_domain_allowlist: ["a.example"] }, ["outbound_domain_allowlist"]],
    [{ egress_headers: [] }, []],
    [{ egress_headers: [{ domain: "a.example", header: "x", secret: "s" }] }, ["egress_headers"]],
    [{ gpu: "T4", cpu: 100, region: "mars" }, ["cpu", "gpu", "region"]],
  ])("%j: refuses %j", (create, paths) => {
    const errors = unsupportedFields(create, CLOUDFLARE_CAPABILITIES, "Cloudflare Containers");
    expect(errors.map(({ path }) => path)).toEqual(paths);
    for (const { message } of errors) expect(message).toContain("Cloudflare Containers");
  });

  it.each<[{ cpu?: number; memory?: number }, string]>([
    [{}, "basic"],
    [{ cpu: 0.0625, memory: 256 }, "lite"],
    [{ cpu: 0.0625, memory: 257 }, "basic"],
    [{ cpu: 0.25, memory: 1024 }, "basic"],
    [{ cpu: 0.26 }, "standard-1"],
    [{ memory: 4096 }, "standard-1"],
    [{ memory: 4097 }, "standard-2"],
    [{ cpu: 2 }, "standard-3"],
    [{ cpu: 2, memory: 8193 }, "standard-4"],
    [{ cpu: 4, memory: 12_288 }, "standard-4"],
  ])("%j gets the size %s", (wanted, size) => {
    expect(instanceTypeFor(wanted)).toBe(size);
  });
});

describe("a deployment without containers", () => {
  it("refuses them, and keeps nothing of what it refused", async () => {
    const name = "free-again";
    for (const create of [
      { backend: "cloudflare", name },
      { backend: "cloudflare", name },
    ]) {
      const problem = await problemOf(await call("POST", "/v1/sandboxes", { json: create }));
      expect(problem).toMatchObject({ status: 422, code: "unsupported_by_backend", errors: [{ path: "backend" }] });
    }
    await connectHost();
    expect((await call("POST", "/v1/sandboxes", { json: { name } })).status).toBe(201);
    const { data } = await (await call("GET", "/v1/sandboxes")).json<{ data: { name?: string }[] }>();
    expect(data.map((sandbox) => sandbox.name)).toEqual([name]);
  });

  it("has no images of its own", async () => {
    expect(await (await call("GET", "/v1/images?kind=deployed")).json()).toEqual({ data: [] });
  });

  it("starts a snapshot of Cloudflare's nowhere else, and forgets it when it is deleted", async () => {
    const imageId = "im-cfcfcfcfcfcfcfcfcfcfcf";
    await new ImageCatalog(env.DB).add({
      imageId,
      environment: "main",
      sandboxId: "sb-aaaaaaaaaaaaaaaaaaaaaa",
      name: null,
      status: "ready",
      error: null,
      parent: null,
      backend: "cloudflare",
      runtime: null,
      digest: null,
      hostId: null,
      snapshotId: "there",
      size: 1,
      createdAt: Date.now(),
      expiresAt: Date.now() + 60_000,
    });
    const create = (json: object) => call("POST", "/v1/sandboxes", { json });
    expect(await problemOf(await create({ image: imageId, backend: "docker" }))).toMatchObject({
      status: 409,
      code: "image_elsewhere",
      detail: expect.stringContaining("cloudflare"),
    });
    // Its own backend is chosen by it, and is not there.
    expect(await problemOf(await create({ image: imageId }))).toMatchObject({
      status: 422,
      errors: [{ path: "backend" }],
    });
    expect(await (await call("GET", `/v1/images/${imageId}`)).json()).toMatchObject({ backend: "cloudflare" });
    expect((await call("DELETE", `/v1/images/${imageId}`)).status).toBe(204);
    expect((await create({ image: imageId })).status).toBe(404);
  });

  it.each([{ region: "weur" }, { block_network: true }])("refuses %j on hosts that cannot do it", async (create) => {
    await connectHost();
    const problem = await problemOf(await call("POST", "/v1/sandboxes", { json: create }));
    expect(problem).toMatchObject({ status: 422, errors: [{ path: Object.keys(create)[0] }] });
    expect((await call("POST", "/v1/sandboxes", { json: { region: "not a region" } })).status).toBe(400);
  });
});
