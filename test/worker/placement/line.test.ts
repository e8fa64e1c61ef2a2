import { env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { openPlacement } from "../../../src/placement/client.ts";
import { call, newKey, problemOf } from "../client.ts";
import { terminate } from "../sandboxes.ts";
import { report, started } from "./fleet.ts";
import { createOne, live, request, withoutHosts } from "./placing.ts";

withoutHosts();

describe("the line", () => {
  it("takes no more of an environment than so many, and says when to come again", async () => {
    await report("a", { memory: 256 });
    const placement = openPlacement(env);
    const { key } = await newKey(["write"], "crowd");
    const ids: string[] = [];
    for (let batch = 0; batch < 11; batch += 1) {
      const some = Array.from({ length: 100 }, () => request({ environment: "crowd", create: { memory: 256 } }));
      ids.push(...some.map(({ sandboxId }) => sandboxId));
      await Promise.allSettled(some.map((one) => placement.admit(one)));
    }
    const refused = await call("POST", "/v1/sandboxes", { key, json: { memory: 256 } });
    expect(refused.headers.get("retry-after")).toMatch(/^[1-9]\d*$/);
    expect(await problemOf(refused)).toMatchObject({ status: 429, code: "rate_limited" });
    // The other environments are not concerned.
    const other = request({ create: { memory: 256 } });
    await placement.admit(other);
    await Promise.all([...ids, other.sandboxId].map((id) => placement.release(id)));
    expect((await live("a")).sandboxes).toBe(0);
  });

  it("is left when the sandbox ends", async () => {
    await report("a", { memory: 256 });
    const first = await createOne({ memory: 256 });
    await expect.poll(() => started([first])).toHaveLength(1);
    const second = await createOne({ memory: 256 });
    const third = await createOne({ memory: 256 });
    await terminate(second);
    await terminate(first);
    await expect.poll(() => started([third])).toHaveLength(1);
    expect((await live("a")).sandboxes).toBe(1);
  });
});
