import { abortAllDurableObjects, env } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { openPlacement } from "../../../src/placement/client.ts";
import { newId } from "../../../src/contract/ids.ts";
import { terminate } from "../sandboxes.ts";
import { report, started } from "./fleet.ts";
import { createOne, specOf, live, request, withoutHosts } from "./placing.ts";

withoutHosts();

describe("devices", () => {
  it("have one owner each, whoever races for them, and go on to those who wait", async () => {
    await report("g", { cpu: 64, gpus: ["H100", 8] });
    const ids = await Promise.all(Array.from({ length: 40 }, () => createOne({ gpu: "h100" })));
    await expect.poll(async () => (await started(ids)).length).toBe(8);
    const owners = await started(ids);
    const uuids = owners.flatMap((id) => specOf(id).gpus);
    expect(new Set(uuids).size).toBe(8);
    expect(await live("g")).toMatchObject({ sandboxes: 8, gpus: 8 });
    await Promise.all(owners.slice(0, 3).map((id) => terminate(id)));
    await expect.poll(async () => (await started(ids)).length).toBe(8);
    const now = await started(ids);
    expect(new Set(now.flatMap((id) => specOf(id).gpus)).size).toBe(8);
    const gone = owners.slice(0, 3);
    expect(now.filter((id) => gone.includes(id))).toEqual([]);
  });

  it("go to who has waited the longest", async () => {
    await report("g", { gpus: ["H100", 1] });
    const ids: string[] = [];
    for (let place = 0; place < 4; place += 1) ids.push(await createOne({ gpu: "H100" }));
    for (const id of ids) {
      await expect.poll(() => started(ids)).toEqual([id]);
      await terminate(id);
    }
  });

  it("are those of the first type of a preference that there is", async () => {
    await report("l", { gpus: ["L4", 2] });
    await report("h", { gpus: ["H100", 2] });
    const two = await createOne({ gpu: "A100,L4:2" });
    const any = await createOne({ gpu: "any" });
    await expect.poll(() => started([two, any])).toHaveLength(2);
    expect(specOf(two).gpus).toEqual(["GPU-l0", "GPU-l1"]);
    expect(specOf(any).gpus).toEqual(["GPU-h0"]);
  });

  it("stay with a container that still runs where nobody claims it", async () => {
    const lingering = { sandbox_id: newId("sandbox"), generation: 1, running: true, gpus: ["GPU-g0"] };
    await report("g", { gpus: ["H100", 2] }, { containers: [lingering] });
    const ids = [await createOne({ gpu: "H100" }), await createOne({ gpu: "H100" })];
    await expect.poll(() => started(ids)).toHaveLength(1);
    expect(specOf((await started(ids))[0]!).gpus).toEqual(["GPU-g1"]);
    await report("g", { gpus: ["H100", 2] });
    await expect.poll(() => started(ids)).toHaveLength(2);
  });

  it("stay with it also when the object that knows of it is lost", async () => {
    const lingering = { sandbox_id: newId("sandbox"), generation: 1, running: true, gpus: ["GPU-g0"] };
    await report("g", { gpus: ["H100", 2] }, { containers: [lingering] });
    await abortAllDurableObjects();
    const ids = [await createOne({ gpu: "H100" }), await createOne({ gpu: "H100" })];
    await expect.poll(() => started(ids)).toHaveLength(1);
    expect(specOf((await started(ids))[0]!).gpus).toEqual(["GPU-g1"]);
  });

  it("stay with a container that has others than were promised to it", async () => {
    const sandboxId = newId("sandbox");
    await report("g", { gpus: ["H100", 2] });
    await openPlacement(env).admit(request({ sandboxId, create: { gpu: "H100" } }));
    const container = { sandbox_id: sandboxId, generation: 1, running: true, gpus: ["GPU-g1"] };
    await report("g", { gpus: ["H100", 2] }, { containers: [container] });
    const other = request({ create: { gpu: "H100" } });
    await openPlacement(env).admit(other);
    expect((await live("g")).sandboxes).toBe(1);
    await Promise.all([sandboxId, other.sandboxId].map((id) => openPlacement(env).release(id)));
  });

  it("keep their owners when the object that knows them is lost", async () => {
    await report("g", { gpus: ["H100", 2] });
    const first = await createOne({ gpu: "H100" });
    await expect.poll(() => started([first])).toHaveLength(1);
    await abortAllDurableObjects();
    const ids = [await createOne({ gpu: "H100" }), await createOne({ gpu: "H100" })];
    await expect.poll(() => started(ids)).toHaveLength(1);
    expect(specOf((await started(ids))[0]!).gpus).not.toEqual(specOf(first).gpus);
  });
});
