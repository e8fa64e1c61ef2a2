import { beforeEach, describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, newKey } from "./client.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
});

const HERE = 40;

describe("a list that is read page by page while sandboxes are created and end", () => {
  it.each([
    ["all of them", ""],
    ["the live ones", "&state=live"],
    ["those with a tag", "&tag=stay"],
  ])("shows %s that were there all the time, each once", async (_, filter) => {
    const { key } = await newKey(["write"], `paging-${filter.length}`);
    const create = async (tags: Record<string, string>) => {
      const response = await call("POST", "/v1/sandboxes", { key, json: { tags } });
      return ((await response.json()) as Sandbox).sandbox_id;
    };
    const end = (id: string) => call("DELETE", `/v1/sandboxes/${id}`, { key });
    const staying: string[] = [];
    const leaving: string[] = [];
    for (let count = 0; count < HERE; count += 1) {
      staying.push(await create({ stay: "1" }));
      leaving.push(await create({ leave: "1" }));
    }
    let isOver = false;
    const churn = async () => {
      while (!isOver) {
        const passing = await create({ pass: "1" });
        await Promise.all([end(passing), ...leaving.splice(0, 1).map(end)]);
      }
    };
    const churning = Promise.all([churn(), churn(), churn()]);
    for (const limit of [3, 7, 1000]) {
      const seen: string[] = [];
      const times: string[] = [];
      let cursor: string | undefined;
      do {
        const query = `?limit=${limit}${filter}${cursor === undefined ? "" : `&cursor=${cursor}`}`;
        const page = (await (await call("GET", `/v1/sandboxes${query}`, { key })).json()) as {
          data: Sandbox[];
          next_cursor?: string;
        };
        seen.push(...page.data.map(({ sandbox_id }) => sandbox_id));
        times.push(...page.data.map(({ created_at }) => created_at));
        cursor = page.next_cursor;
      } while (cursor !== undefined);
      expect(new Set(seen).size).toBe(seen.length);
      expect(times).toEqual(times.toSorted().toReversed());
      for (const id of staying) expect(seen).toContain(id);
    }
    isOver = true;
    await churning;
  });
});
