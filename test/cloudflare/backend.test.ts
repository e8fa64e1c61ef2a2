import { describe, expect, inject, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { describeBackend } from "../backends/contract.ts";
import { codeOf, startSpec } from "../backends/under-test.ts";
import { RemoteBackend } from "./remote-backend.ts";

const workerUrl = inject("containerWorker");

// Real containers, each beside its object in workerd: see `setup.ts`.
describe.skipIf(workerUrl === undefined)("on Cloudflare Containers", () => {
  const open = (sandboxId: string) => new RemoteBackend(workerUrl ?? "", sandboxId);
  describeBackend({ name: "cloudflare", image: "base", open, isBesideObject: true, hasFixedNetwork: true });

  it("moves and removes what comes with the image", async () => {
    const sandboxId = newId("sandbox");
    const backend = open(sandboxId);
    await backend.start(startSpec("base", sandboxId));
    const seen = async (path: string) =>
      (await backend.list(path, { depth: 100, limit: 1000 })).data.map((info) => [
        info.path.slice(path.length),
        info.permissions,
        info.type === "directory" ? 0 : info.size,
        info.owner,
        info.symlink_target,
      ]);
    const before = await seen("/usr/share/perl5");
    expect(before.length).toBeGreaterThan(5);
    await backend.move("/usr/share/perl5", "/srv/new/moved");
    expect(await seen("/srv/new/moved")).toEqual(before);
    expect(await codeOf(backend.stat("/usr/share/perl5"))).toBe("file_not_found");
    await backend.remove("/usr/share/doc", true);
    expect(await codeOf(backend.stat("/usr/share/doc"))).toBe("file_not_found");
    await backend.stop();
  });

  it("has no volumes, which no create here can ask for", async () => {
    const sandboxId = newId("sandbox");
    const backend = open(sandboxId);
    await backend.start(startSpec("base", sandboxId));
    expect(await codeOf(backend.commitVolumes())).toBe("unsupported_by_backend");
    expect(await codeOf(backend.reloadVolumes())).toBe("unsupported_by_backend");
    await backend.stop();
  });
});
