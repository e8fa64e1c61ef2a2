import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { z } from "zod";
import { DigestSchema } from "../../contract/registry.ts";
import { hashing } from "../layers/hashing.ts";
import { packLayer } from "../layers/pack.ts";
import { BadLayer, unpackLayer } from "../layers/unpack.ts";
import { downloadBlob } from "../registry/blob-download.ts";
import { BlobUpload, hasBlob } from "../registry/blob-upload.ts";
import type { Upstream } from "../registry/upstream.ts";
import { AS_ROOT, run } from "../linux/programs.ts";
import { overlayTrees } from "./rootfs.ts";

/** A layer as the registry has it: the digest and size of what is stored, and the digest of what that unpacks to. */
const StoredLayerSchema = z.object({ digest: DigestSchema, size: z.int(), diff_id: DigestSchema });
export type StoredLayer = z.infer<typeof StoredLayerSchema>;

/** What a layer may unpack to: a few bytes can mean any number of them. */
const MAX_UNPACKED_BYTES = 64 * 1024 ** 3;

/** Moves layers between this machine and a registry: `layerDir/NAME` holds one, and `layerDir/NAME.json` what the registry calls it. */
export class OciLayers {
  readonly #layerDir: string;
  readonly #trashDir: string;

  constructor(layerDir: string, trashDir: string) {
    this.#layerDir = layerDir;
    this.#trashDir = trashDir;
  }

  /** Stores a layer unless the registry has it. `uploadedBytes`: what was sent. */
  async push(
    upstream: Upstream,
    repository: string,
    name: string,
  ): Promise<{ stored: StoredLayer; uploadedBytes: number }> {
    const known = await this.stored(name);
    if (known && (await hasBlob(upstream, repository, known.digest))) return { stored: known, uploadedBytes: 0 };
    const file = `${this.#trashDir}/${name}.${randomUUID()}.tgz`;
    try {
      const stored = await this.#pack(name, file);
      await this.#remember(name, stored);
      if (await hasBlob(upstream, repository, stored.digest)) return { stored, uploadedBytes: 0 };
      const upload = await BlobUpload.begin(upstream, repository);
      if (!upload) return { stored, uploadedBytes: 0 };
      for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 })) await upload.write(chunk as Buffer);
      await upload.finish(stored.digest);
      return { stored, uploadedBytes: stored.size };
    } finally {
      await rm(file, { force: true });
    }
  }

  /** Brings a layer here as `name`; nothing of it is there before it is whole. Throws {@link BadLayer} for what must not be unpacked. */
  async pull(upstream: Upstream, repository: string, name: string, layer: StoredLayer, isGzip: boolean): Promise<void> {
    const draft = `${this.#trashDir}/${name}.${randomUUID()}`;
    const hash = createHash("sha256");
    const hashed = hashing(hash, MAX_UNPACKED_BYTES);
    const steps = isGzip ? [createGunzip(), hashed] : [hashed];
    try {
      const moved = pipeline([downloadBlob(upstream, repository, layer.digest), ...steps]);
      // Whichever of the two breaks is what is the matter.
      await Promise.all([moved, unpackLayer(hashed, draft, overlayTrees())]);
      if (`sha256:${hash.digest("hex")}` !== layer.diff_id) throw new BadLayer("the layer is not what its image says");
      await this.#remember(name, layer);
      await rename(draft, `${this.#layerDir}/${name}`).catch((error: NodeJS.ErrnoException) => {
        // Another image that has the layer, too, was faster.
        if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
      });
    } finally {
      await run([...AS_ROOT, "rm", "-rf", "--", draft]).catch(() => undefined);
    }
  }

  /** What a registry calls the layer, where that is known. */
  async stored(name: string): Promise<StoredLayer | undefined> {
    const text = await readFile(`${this.#layerDir}/${name}.json`, "utf8").catch(() => undefined);
    return text === undefined ? undefined : StoredLayerSchema.parse(JSON.parse(text));
  }

  async #pack(name: string, file: string): Promise<StoredLayer> {
    const content = createHash("sha256");
    const packed = createHash("sha256");
    const directory = `${this.#layerDir}/${name}`;
    const trees = overlayTrees().map((tree) => ({
      directory: `${directory}/${tree}`,
      prefix: tree === "root" ? "" : tree,
    }));
    await pipeline(
      packLayer(trees, { sparse: true }),
      hashing(content),
      createGzip(),
      hashing(packed),
      createWriteStream(file, { mode: 0o600 }),
    );
    const { size } = await stat(file);
    return { digest: `sha256:${packed.digest("hex")}`, size, diff_id: `sha256:${content.digest("hex")}` };
  }

  async #remember(name: string, layer: StoredLayer): Promise<void> {
    const draft = `${this.#trashDir}/${name}.${randomUUID()}.json`;
    await writeFile(draft, JSON.stringify(layer));
    await rename(draft, `${this.#layerDir}/${name}.json`);
  }
}
