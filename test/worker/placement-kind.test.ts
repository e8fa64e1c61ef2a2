import { runInDurableObject } from "cloudflare:test";
import { expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { createTables } from "../../src/sandbox/schema.ts";
import { SandboxStore } from "../../src/sandbox/store.ts";
import { objectOf } from "./sandboxes.ts";

it("a record from before there were two kinds of places is on its host", async () => {
  await runInDurableObject(objectOf(newId("sandbox")), async (_, { storage }) => {
    const placement = { hostId: "ho-aaaaaaaaaaaaaaaaaaaaaa", url: "http://127.0.0.1:1" };
    createTables(storage.sql);
    storage.sql.exec("INSERT INTO sandbox VALUES (1, ?)", JSON.stringify({ sandboxId: "sb-x", placement }));
    expect(new SandboxStore(storage).record?.placement).toEqual({ kind: "host", ...placement });
  });
});
