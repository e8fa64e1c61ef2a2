import { beforeEach, describe, expect, it } from "vitest";
import type { NetworkPolicy } from "../../src/contract/network.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, forgetHosts, problemOf } from "./client.ts";
import { connectHostWith, CUT_OFF, RULES, rulesOf } from "./network-calls.ts";
import { changed, getSandbox, patch, startSandbox, terminate } from "./sandboxes.ts";
import { idOfNew } from "./secret-calls.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  Object.assign(fakeHost, { isDown: false, holdsStarts: false, hasNoRules: false, losesAnswers: false });
  await connectHostWith(RULES);
});

const refused = async (sandboxId: string, json: object) => problemOf(await patch(sandboxId, json));
const create = async (json: object) => (await call("POST", "/v1/sandboxes", { json })).json<Sandbox>();
const ONE = ["192.0.2.0/24"];
const OTHER = ["198.51.100.0/24"];
const NAMES = ["*.example.com"];
const only = (cidrs: string[], domains: string[] = []): NetworkPolicy => ({ outbound: { cidrs, domains } });
const raw = { unencrypted_ports: [80] };
const lists = { outbound_cidr_allowlist: ONE, outbound_domain_allowlist: NAMES };
const FIELDS = [
  "block_network",
  "outbound_cidr_allowlist",
  "outbound_domain_allowlist",
  "inbound_cidr_allowlist",
] as const;

describe("the rules of a sandbox that runs", () => {
  it.each<[before: object, patch: object, after: object, NetworkPolicy]>([
    [{}, { outbound_cidr_allowlist: ONE }, { outbound_cidr_allowlist: ONE }, only(ONE)],
    [{ outbound_cidr_allowlist: ONE }, { outbound_domain_allowlist: NAMES }, lists, only(ONE, NAMES)],
    [lists, { outbound_cidr_allowlist: OTHER }, { ...lists, outbound_cidr_allowlist: OTHER }, only(OTHER, NAMES)],
    [lists, { outbound_cidr_allowlist: null }, { outbound_domain_allowlist: NAMES }, only([], NAMES)],
    [lists, { outbound_cidr_allowlist: null, outbound_domain_allowlist: null }, {}, {}],
    [lists, { block_network: true }, { block_network: true }, CUT_OFF],
    [lists, { block_network: false }, { ...lists, block_network: false }, only(ONE, NAMES)],
    [{ block_network: true }, { block_network: false }, { block_network: false }, {}],
    [{ block_network: true }, { outbound_cidr_allowlist: ONE }, { outbound_cidr_allowlist: ONE }, only(ONE)],
    [{ block_network: true }, { outbound_cidr_allowlist: null }, { block_network: true }, CUT_OFF],
    [{}, { outbound_domain_allowlist: [] }, { outbound_domain_allowlist: [] }, CUT_OFF],
    [raw, { inbound_cidr_allowlist: ONE }, { inbound_cidr_allowlist: ONE }, { inbound_cidrs: ONE }],
    [{ ...raw, inbound_cidr_allowlist: ONE }, { inbound_cidr_allowlist: null }, {}, {}],
  ])("%j with %j are %j", async (before, change, after, policy) => {
    const sandboxId = await startSandbox(before);
    const shown = await changed(sandboxId, { ...change, tags: { a: "1" } });
    expect(Object.fromEntries(FIELDS.flatMap((field) => (field in shown ? [[field, shown[field]]] : [])))).toEqual(
      after,
    );
    expect(shown.tags).toEqual({ a: "1" });
    expect(await getSandbox(sandboxId)).toEqual(shown);
    expect(rulesOf(sandboxId) ?? {}).toEqual(policy);
    await terminate(sandboxId);
  });

  it("are told to the host with the secrets as they are then, and cut off without them", async () => {
    const secret = await idOfNew({ A: "old" });
    const header = { domain: "example.com", header: "x" };
    const sandboxId = await startSandbox({ egress_headers: [{ ...header, secret, key: "A" }] });
    await call("PUT", `/v1/secrets/${secret}`, { json: { values: { A: "new" } } });
    await changed(sandboxId, { outbound_domain_allowlist: NAMES });
    expect(rulesOf(sandboxId)).toEqual({ ...only([], NAMES), headers: [{ ...header, value: "new" }] });
    await call("PUT", `/v1/secrets/${secret}`, { json: { values: { B: "gone" } } });
    const before = await getSandbox(sandboxId);
    expect(await refused(sandboxId, { outbound_domain_allowlist: ["example.com"] })).toMatchObject({ status: 400 });
    expect(await getSandbox(sandboxId)).toEqual(before);
    await changed(sandboxId, { block_network: true });
    expect(rulesOf(sandboxId)).toEqual(CUT_OFF);
    await terminate(sandboxId);
  });

  it("are in the end what is written down, however many change them at once", async () => {
    const sandboxId = await startSandbox();
    const patches = [...Array(8).keys()].map((at) => ({ outbound_cidr_allowlist: [`198.51.100.${at}/32`] }));
    await Promise.all(patches.map((one) => changed(sandboxId, one)));
    const { outbound_cidr_allowlist: cidrs } = await getSandbox(sandboxId);
    expect(rulesOf(sandboxId)).toEqual(only(cidrs!));
    const events = await (await call("GET", `/v1/sandboxes/${sandboxId}/events?follow=false`)).text();
    expect(events.match(/"fields":\["outbound_cidr_allowlist"\]/g)).toHaveLength(8);
    await terminate(sandboxId);
  });

  it("are not changed of one that has ended", async () => {
    const sandboxId = await startSandbox();
    await terminate(sandboxId);
    for (const field of FIELDS) {
      const json = { [field]: field === "block_network" ? false : null };
      expect(await refused(sandboxId, json)).toMatchObject({ status: 409, code: "sandbox_ended" });
    }
  });

  it("are held by a host without any where only its tunnels are meant", async () => {
    const sandboxId = await startSandbox({ encrypted_ports: [80] });
    fakeHost.hasNoRules = true;
    expect(await changed(sandboxId, { inbound_cidr_allowlist: ONE })).toMatchObject({ inbound_cidr_allowlist: ONE });
    expect(rulesOf(sandboxId)).toEqual({ inbound_cidrs: ONE });
    await terminate(sandboxId);
  });
});

describe("a change that fails changes nothing", () => {
  it.each<[object, object, string[]]>([
    [{}, { block_network: true }, ["block_network"]],
    [
      raw,
      { inbound_cidr_allowlist: [], outbound_cidr_allowlist: ONE },
      ["outbound_cidr_allowlist", "inbound_cidr_allowlist"],
    ],
    [{}, { inbound_cidr_allowlist: [], outbound_domain_allowlist: [] }, ["outbound_domain_allowlist"]],
  ])("of %j with %j, which its host cannot, naming %j", async (before, change, paths) => {
    const sandboxId = await startSandbox({ ...before, timeout: 600 });
    const was = await getSandbox(sandboxId);
    fakeHost.hasNoRules = true;
    const problem = await refused(sandboxId, { ...change, tags: { a: "1" }, timeout: 900 });
    expect(problem).toMatchObject({ status: 422, code: "unsupported_by_backend" });
    expect(problem.errors!.map(({ path }) => path)).toEqual(paths);
    expect(await getSandbox(sandboxId)).toEqual(was);
    // The deadline, which it was told before, is what it was again.
    const lifetimeS = () => (fakeHost.containers.get(sandboxId)!.deadlineAt - Date.now()) / 1000;
    await expect.poll(lifetimeS, { timeout: 8000 }).toBeLessThan(620);
    await terminate(sandboxId);
  });

  it("where the host cannot be told, or does not say that it was, and then it is told what is written down", async () => {
    const sandboxId = await startSandbox({ outbound_cidr_allowlist: ONE });
    const before = await getSandbox(sandboxId);
    fakeHost.losesAnswers = true;
    const problem = refused(sandboxId, { outbound_cidr_allowlist: OTHER, tags: { a: "1" } });
    await expect.poll(() => rulesOf(sandboxId)).toEqual(only(OTHER));
    expect(await problem).toMatchObject({ status: 503, code: "backend_unavailable" });
    expect(await getSandbox(sandboxId)).toEqual(before);
    fakeHost.losesAnswers = false;
    await expect.poll(() => rulesOf(sandboxId), { timeout: 8000 }).toEqual(only(ONE));
    await terminate(sandboxId);
  });
});

describe("the rules of a sandbox that has not started", () => {
  const started = (sandboxId: string) =>
    expect.poll(async () => (await getSandbox(sandboxId)).state, { timeout: 8000 }).toBe("ready");

  it("are those that it starts with", async () => {
    await forgetHosts();
    const { sandbox_id } = await create({});
    expect(await changed(sandbox_id, lists)).toMatchObject({ ...lists, state: "created" });
    await connectHostWith(RULES);
    await started(sandbox_id);
    expect(fakeHost.containers.get(sandbox_id)!.spec.network).toEqual(only(ONE, NAMES));
    await terminate(sandbox_id);
  });

  it("hold before it counts as started, where they are changed in the middle of it", async () => {
    fakeHost.holdsStarts = true;
    const { sandbox_id } = await create({ outbound_cidr_allowlist: ONE });
    await expect.poll(() => fakeHost.heldStarts).toBe(1);
    expect(await changed(sandbox_id, { block_network: true })).toMatchObject({
      state: "scheduled",
      block_network: true,
    });
    fakeHost.holdsStarts = false;
    await started(sandbox_id);
    expect(fakeHost.containers.get(sandbox_id)!.spec.network).toEqual(only(ONE));
    expect(rulesOf(sandbox_id)).toEqual(CUT_OFF);
    await terminate(sandbox_id);
  });

  it("are refused where the host that it has a place on holds none", async () => {
    await connectHost();
    fakeHost.holdsStarts = true;
    const { sandbox_id } = await create({});
    await expect.poll(() => fakeHost.heldStarts).toBe(1);
    const problem = await refused(sandbox_id, { outbound_cidr_allowlist: ONE, tags: { a: "1" } });
    expect(problem).toMatchObject({ status: 422, errors: [{ path: "outbound_cidr_allowlist" }] });
    fakeHost.holdsStarts = false;
    await started(sandbox_id);
    expect(await getSandbox(sandbox_id)).toMatchObject({ tags: {} });
    expect(await getSandbox(sandbox_id)).not.toHaveProperty("outbound_cidr_allowlist");
    expect(rulesOf(sandbox_id)).toBeUndefined();
    await terminate(sandbox_id);
  });
});
