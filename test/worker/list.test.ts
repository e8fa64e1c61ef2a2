import { env } from "cloudflare:test";
import { beforeAll, describe, expect, it } from "vitest";
import { SandboxCatalog, type SandboxRow } from "../../src/catalog/sandboxes.ts";
import type { Sandbox, SandboxState } from "../../src/contract/sandbox.ts";
import { call, newKey, problemOf } from "./client.ts";

const COUNT = 25;
const START = Date.parse("2026-11-01T00:00:00.000Z");
const catalog = new SandboxCatalog(env.DB);

const idOf = (at: number) => `sb-${String(at).padStart(22, "0")}`;

function row(at: number, changes: Partial<Sandbox> = {}, version = 1): SandboxRow {
  const sandbox: Sandbox = {
    sandbox_id: idOf(at),
    state: "ready",
    image: "fake",
    backend: "docker",
    timeout: 300,
    tags: {},
    // Three of each time, so that the order within one time matters.
    created_at: new Date(START + Math.floor(at / 3)).toISOString(),
    ...changes,
  };
  return { environment: "lists", hostId: "ho-l", generation: 1, version, sandbox };
}

const STATES: SandboxState[] = ["created", "ready", "finished", "terminated"];
let key: string;

const list = async (query = "") => {
  const response = await call("GET", `/v1/sandboxes${query}`, { key });
  expect(response.status).toBe(200);
  return (await response.json()) as { data: Sandbox[]; next_cursor?: string };
};
const ids = (page: { data: Sandbox[] }) => page.data.map(({ sandbox_id }) => sandbox_id);

beforeAll(async () => {
  ({ key } = await newKey(["read"], "lists"));
  for (let at = 0; at < COUNT; at += 1) {
    const tags: Record<string, string> = { n: String(at), "with=in": "x", ...(at % 2 === 0 && { even: "yes" }) };
    delete tags["with=in"];
    if (at === 3) tags["url"] = "a=b";
    await catalog.apply(
      row(at, {
        tags,
        state: STATES[at % 4]!,
        ...(at % 5 === 0 && { app_id: "five" }),
        ...(at === 7 && { name: "seven" }),
      }),
    );
  }
});

describe("the list of sandboxes", () => {
  it("is newest first", async () => {
    const all = await list();
    expect(ids(all)).toEqual(Array.from({ length: COUNT }, (_, at) => idOf(COUNT - 1 - at)));
    expect(all).not.toHaveProperty("next_cursor");
  });

  it.each([1, 2, 7, 24, 25])("comes in pages of %i without a gap or a repeat", async (limit) => {
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await list(`?limit=${limit}${cursor === undefined ? "" : `&cursor=${cursor}`}`);
      expect(page.data.length).toBeLessThanOrEqual(limit);
      seen.push(...ids(page));
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    expect(seen).toEqual(ids(await list()));
  });

  it("does not move under a cursor when something is added", async () => {
    const first = await list("?limit=10");
    await catalog.apply({ ...row(900), environment: "lists-more" });
    await catalog.apply(row(901, { tags: { late: "1" } }));
    const second = await list(`?limit=10&cursor=${first.next_cursor}`);
    expect(ids(second)[0]).toBe(idOf(COUNT - 11));
    await env.DB.prepare("DELETE FROM sandboxes WHERE sandbox_id = ?").bind(idOf(901)).run();
  });

  it("is filtered by app, name, state and tags, all of which must hold", async () => {
    expect(ids(await list("?app_id=five"))).toEqual([20, 15, 10, 5, 0].map(idOf));
    expect(ids(await list("?name=seven"))).toEqual([idOf(7)]);
    expect((await list("?state=created")).data).toHaveLength(7);
    expect((await list("?state=created&state=ready")).data).toHaveLength(13);
    expect((await list("?state=live")).data).toHaveLength(13);
    expect((await list("?state=ended")).data).toHaveLength(12);
    expect((await list("?tag=even")).data).toHaveLength(13);
    expect(ids(await list("?tag=n=8"))).toEqual([idOf(8)]);
    expect(ids(await list("?tag=even&tag=n=8"))).toEqual([idOf(8)]);
    expect(ids(await list("?tag=even=yes&tag=n=9"))).toEqual([]);
    expect(ids(await list("?tag=even=no"))).toEqual([]);
    expect(ids(await list("?tag=url=a=b"))).toEqual([idOf(3)]);
    expect(ids(await list("?tag=even&app_id=five&state=ready"))).toEqual([]);
    expect(ids(await list("?tag=even&app_id=five&state=finished"))).toEqual([idOf(10)]);
  });

  it("keeps its filter across pages", async () => {
    const first = await list("?tag=even&limit=5");
    const second = await list(`?tag=even&limit=50&cursor=${first.next_cursor}`);
    expect([...ids(first), ...ids(second)]).toEqual(ids(await list("?tag=even")));
  });

  it.each([
    "?limit=0",
    "?limit=1001",
    "?limit=x",
    "?limit=1.5",
    "?limit=1&limit=2",
    "?cursor=!!",
    "?cursor=YWJj",
    "?state=nope",
    "?nope=1",
    "?tag=",
  ])("refuses %s", async (query) => {
    const problem = await problemOf(await call("GET", `/v1/sandboxes${query}`, { key }));
    expect(problem).toMatchObject({ status: 400, code: "invalid_request" });
    expect(problem.errors?.[0]?.path).toBe(
      /^\?(\w+)/.exec(query)![1] === "state" ? "state.0" : problem.errors![0]!.path,
    );
  });
});

describe("the catalog's row of a sandbox", () => {
  const only = async (environment: string, tags?: { key: string; value?: string }[]) =>
    (await catalog.list({ environment, tags }, { limit: 10 })).data;

  it("never goes back to an older version, nor do its tags", async () => {
    const environment = "versions";
    const put = (version: number, changes: Partial<Sandbox>) =>
      catalog.apply({ ...row(500, changes, version), environment });
    await put(1, { state: "created", tags: { a: "1", b: "1" } });
    await put(3, { state: "finished", tags: { b: "2", c: "1" } });
    await put(2, { state: "ready", tags: { a: "1", d: "1" } });
    await put(3, { state: "finished", tags: { b: "2", c: "1" } });
    expect(await only(environment)).toMatchObject([{ state: "finished", tags: { b: "2", c: "1" } }]);
    for (const gone of ["a", "d"]) expect(await only(environment, [{ key: gone }])).toEqual([]);
    expect(await only(environment, [{ key: "b", value: "1" }])).toEqual([]);
    expect(await only(environment, [{ key: "b", value: "2" }, { key: "c" }])).toHaveLength(1);
  });

  it("tells what is live on a host, and not what has ended", async () => {
    await catalog.apply({ ...row(601), hostId: "ho-m", generation: 4 });
    await catalog.apply({ ...row(602, { state: "terminated" }), hostId: "ho-m" });
    expect(await catalog.liveOnHost("ho-m")).toEqual([{ sandbox_id: idOf(601), environment: "lists", generation: 4 }]);
  });
});
