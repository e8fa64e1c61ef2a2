import type { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { expect, it } from "vitest";
import type { CommitConfig, Engine } from "../../src/host/docker/engine.ts";
import { snapshotContainer } from "../../src/host/docker/snapshot.ts";

const BASE = { Env: ["PATH=/bin", "MODE=image"], Labels: { of: "image" }, Entrypoint: null, Cmd: ["sh"] };
const SECRETS = ["TOKEN=ends-in-base64==", "PLAIN=s3cr3t", "MODE=s3cr3t-mode"];
const NAMES = { imageId: "im-x", reference: "sandbar/ho-x:im-x", draftDir: "/nowhere" };

/** An engine with one container, as far as a snapshot asks it. */
class SnapshotEngine {
  readonly images = new Map<string, object>();
  /** Everything that it was given for an image that stays. */
  given = "";
  readonly #does: { loads: boolean; blanks: boolean };

  constructor(does: { loads: boolean; blanks: boolean }) {
    this.#does = does;
    this.images.set("base", { Config: BASE, RootFS: { Layers: ["sha256:a"] } });
  }

  inspect = async () => ({
    Image: "base",
    Config: { Env: ["PATH=/bin", ...SECRETS], Labels: { of: "image", sandbox: "sb-x" } },
    GraphDriver: { Name: "other" },
  });

  inspectImage = async (name: string) => this.images.get(name)!;

  commit = async (_: string, { Env, ...config }: CommitConfig) => {
    const all = this.#does.blanks ? ["PATH=/bin", ...Env] : ["PATH=/bin", ...SECRETS];
    const RootFS = { Layers: ["sha256:a", "sha256:b"] };
    this.images.set("committed", {
      Architecture: "amd64",
      Created: "now",
      Config: { ...config, Env: all },
      RootFS,
      Size: 1,
    });
    return "committed";
  };

  load = async (archive: Readable) => {
    if (!this.#does.loads) throw new Error("layers are missing");
    this.given = (await buffer(archive)).toString();
    const config = JSON.parse(/\{"architecture".*\}\]\}/.exec(this.given)![0]) as {
      config: object;
      rootfs: { diff_ids: string[] };
    };
    this.images.set(NAMES.reference, { Config: config.config, RootFS: { Layers: config.rootfs.diff_ids }, Size: 1 });
  };

  tag = async (id: string, repository: string, tag: string) => {
    this.images.set(`${repository}:${tag}`, this.images.get(id)!);
  };

  removeImage = async (id: string) => {
    this.images.delete(id);
  };
}

const snapshot = (engine: SnapshotEngine) => snapshotContainer(engine as unknown as Engine, "container", NAMES);

it("keeps none of the sandbox's variables in the image, and removes the commit that does", async () => {
  const engine = new SnapshotEngine({ loads: true, blanks: false });
  await snapshot(engine);
  expect(engine.images.get(NAMES.reference)).toMatchObject({ Config: { Env: BASE.Env } });
  expect(engine.given).not.toMatch(/s3cr3t|base64==/);
  expect([...engine.images.keys()]).toEqual(["base", NAMES.reference]);
});

it("keeps them empty, or as the image has them, where the engine takes nothing but a commit", async () => {
  const engine = new SnapshotEngine({ loads: false, blanks: true });
  await snapshot(engine);
  expect(engine.images.get(NAMES.reference)).toMatchObject({
    Config: { Env: ["PATH=/bin", "TOKEN=", "PLAIN=", "MODE=image"], Labels: { of: "image", sandbox: "" } },
  });
});

it.each([[SECRETS[0]!], [SECRETS[1]!]])("makes none where the engine keeps %s all the same", async (kept) => {
  const engine = new SnapshotEngine({ loads: false, blanks: true });
  const commit = engine.commit;
  engine.commit = (id, config) => commit(id, { ...config, Env: [...config.Env, kept] });
  await expect(snapshot(engine)).rejects.toThrow(/keeps a sandbox's variables/);
  expect([...engine.images.keys()]).toEqual(["base"]);
});
