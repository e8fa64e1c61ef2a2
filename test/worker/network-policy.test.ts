import { beforeEach, describe, expect, it } from "vitest";
import type { NetworkPolicy } from "../../src/contract/network.ts";
import type { Sandbox, SandboxPage } from "../../src/contract/sandbox.ts";
import type { Fork } from "../../src/contract/snapshot.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { connectHostWith, CUT_OFF, RULES, rulesOf } from "./network-calls.ts";
import { getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { idOfNew } from "./secret-calls.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHostWith(RULES);
});

const refused = async (create: object) => problemOf(await call("POST", "/v1/sandboxes", { json: create }));
const CIDRS = ["192.0.2.0/24", "2001:db8::/32"];
const DOMAINS = ["example.com", "*.example.org"];
const only = (cidrs: string[], domains: string[] = []): NetworkPolicy => ({ outbound: { cidrs, domains } });

describe("a network as it is asked for", () => {
  it.each<[object, NetworkPolicy | undefined]>([
    [{}, undefined],
    [{ block_network: false, tunnel_auth: "none", egress_headers: [] }, undefined],
    [{ block_network: true }, CUT_OFF],
    [{ outbound_cidr_allowlist: [] }, CUT_OFF],
    [{ outbound_domain_allowlist: [] }, CUT_OFF],
    [{ outbound_cidr_allowlist: CIDRS }, only(CIDRS)],
    [{ outbound_domain_allowlist: DOMAINS }, only([], DOMAINS)],
    [{ outbound_cidr_allowlist: CIDRS, outbound_domain_allowlist: DOMAINS }, only(CIDRS, DOMAINS)],
    [{ outbound_cidr_allowlist: [], outbound_domain_allowlist: DOMAINS }, only([], DOMAINS)],
    [{ inbound_cidr_allowlist: CIDRS, tunnel_auth: "token" }, { inbound_cidrs: CIDRS }],
    [{ inbound_cidr_allowlist: CIDRS, encrypted_ports: [80] }, { inbound_cidrs: CIDRS }],
    [{ inbound_cidr_allowlist: [], unencrypted_ports: [80] }, { inbound_cidrs: [] }],
    [
      { block_network: true, inbound_cidr_allowlist: CIDRS, unencrypted_ports: [80] },
      { ...CUT_OFF, inbound_cidrs: CIDRS },
    ],
  ])("%j is shown, and nothing else, and its host has the rules %j", async (create, policy) => {
    const sandboxId = await startSandbox(create);
    const shown = await getSandbox(sandboxId);
    const fields = /^(block_network|outbound_|inbound_|tunnel_auth|egress_headers)/;
    const { encrypted_ports: _, unencrypted_ports: __, ...expected } = create as Record<string, unknown>;
    expect(Object.fromEntries(Object.entries(shown).filter(([field]) => fields.test(field)))).toEqual(expected);
    expect(fakeHost.containers.get(sandboxId)!.spec.network).toEqual(policy);
    const { data } = await (await call("GET", "/v1/sandboxes?state=live")).json<SandboxPage>();
    expect(data.find(({ sandbox_id }) => sandbox_id === sandboxId)).toMatchObject(expected);
    await terminate(sandboxId);
  });

  it("is a fork's, too, as it is by then", async () => {
    const secret = await idOfNew({ A: "a" });
    const sandboxId = await startSandbox({
      outbound_domain_allowlist: DOMAINS,
      inbound_cidr_allowlist: CIDRS,
      tunnel_auth: "token",
      egress_headers: [{ domain: "example.com", header: "X-Key", secret }],
    });
    await call("PATCH", `/v1/sandboxes/${sandboxId}`, { json: { outbound_cidr_allowlist: CIDRS } });
    const { data } = await (await call("POST", `/v1/sandboxes/${sandboxId}/fork`, { json: {} })).json<Fork>();
    const fork = data[0]!;
    expect(fork).toMatchObject({
      outbound_cidr_allowlist: CIDRS,
      outbound_domain_allowlist: DOMAINS,
      inbound_cidr_allowlist: CIDRS,
      tunnel_auth: "token",
      egress_headers: [{ domain: "example.com", header: "x-key", secret }],
    });
    await expect.poll(() => fakeHost.containers.has(fork.sandbox_id)).toBe(true);
    const headers = [{ domain: "example.com", header: "x-key", value: "a" }];
    expect(rulesOf(fork.sandbox_id)).toEqual({ ...only(CIDRS, DOMAINS), inbound_cidrs: CIDRS, headers });
    expect(rulesOf(sandboxId)).toEqual(rulesOf(fork.sandbox_id));
    await Promise.all([sandboxId, fork.sandbox_id].map(terminate));
  });

  it("counts for an idempotency key", async () => {
    const headers = { "idempotency-key": crypto.randomUUID() };
    const create = (json: object) => call("POST", "/v1/sandboxes", { json, headers });
    const { sandbox_id } = await (await create({ outbound_cidr_allowlist: CIDRS })).json<Sandbox>();
    const again = await create({ outbound_cidr_allowlist: [...CIDRS, "198.51.100.0/24"] });
    expect(await problemOf(again)).toMatchObject({ code: "idempotency_conflict" });
    await terminate(sandbox_id);
  });
});

describe("a network that makes no sense", () => {
  const header = (domain: string) => ({ domain, header: "x", secret: "none" });
  it.each<[object, string]>([
    [{ block_network: true, outbound_cidr_allowlist: [] }, "block_network"],
    [{ block_network: true, outbound_domain_allowlist: DOMAINS }, "block_network"],
    [{ block_network: true, egress_headers: [header("example.com")] }, "egress_headers.0.domain"],
    [{ outbound_cidr_allowlist: [], egress_headers: [header("example.com")] }, "egress_headers.0.domain"],
    [
      { outbound_domain_allowlist: DOMAINS, egress_headers: [header("example.com"), header("a.example.com")] },
      "egress_headers.1.domain",
    ],
    [
      { outbound_domain_allowlist: DOMAINS, egress_headers: [header("a.example.org"), header("other.org")] },
      "egress_headers.1.domain",
    ],
  ])("is refused: %j", async (create, path) => {
    const problem = await refused(create);
    expect(problem).toMatchObject({ status: 400, code: "invalid_request", errors: [{ path }] });
    expect(problem.errors).toHaveLength(1);
  });

  it("may have a header for a domain that is at an allowed address for all that is known", async () => {
    const create = { outbound_cidr_allowlist: CIDRS, egress_headers: [header("example.com")] };
    expect(await refused(create)).toMatchObject({ status: 404, code: "secret_not_found" });
  });
});

describe("a network that no host can give", () => {
  const list = { outbound_cidr_allowlist: CIDRS };
  it.each<[object, string[], string[]]>([
    [{ block_network: true }, ["block_network"], []],
    [{ outbound_cidr_allowlist: [] }, ["outbound_cidr_allowlist"], []],
    [{ ...list, outbound_domain_allowlist: [] }, ...both(["outbound_cidr_allowlist", "outbound_domain_allowlist"])],
    [{ outbound_domain_allowlist: DOMAINS }, ...both(["outbound_domain_allowlist"])],
    [{ inbound_cidr_allowlist: CIDRS, unencrypted_ports: [80] }, ...both(["inbound_cidr_allowlist"])],
    [{ inbound_cidr_allowlist: CIDRS, encrypted_ports: [80], tunnel_auth: "token" }, [], []],
  ])("is refused by name: %j", async (create, without, withBlock) => {
    const refusals = async () => {
      const response = await call("POST", "/v1/sandboxes", { json: create });
      if (response.status === 201) return terminate((await response.json<Sandbox>()).sandbox_id).then(() => []);
      const problem = await problemOf(response);
      expect(problem).toMatchObject({ status: 422, code: "unsupported_by_backend" });
      return problem.errors!.map(({ path }) => path);
    };
    await connectHost();
    expect(await refusals()).toEqual(without);
    await connectHostWith({ block_network: true });
    expect(await refusals()).toEqual(withBlock);
    await connectHostWith(RULES);
    expect(await refusals()).toEqual([]);
  });

  it("is refused in the name of the headers where there can be none", async () => {
    await connectHostWith({ ...RULES, egress_headers: false });
    const secret = await idOfNew({ A: "a" });
    const problem = await refused({ egress_headers: [{ domain: "example.com", header: "x", secret }] });
    expect(problem).toMatchObject({ status: 422, errors: [{ path: "egress_headers" }] });
  });
});

function both(paths: string[]): [string[], string[]] {
  return [paths, paths];
}
