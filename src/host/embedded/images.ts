import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { ApiError } from "../../contract/errors.ts";
import type { ImageSource, ImageTarget, StartSpec } from "../../contract/host-protocol.ts";
import { Joined } from "../joined.ts";
import { StartFailure } from "../runtime.ts";
import { AS_ROOT, run } from "../linux/programs.ts";
import { OciLayers, type StoredLayer } from "./oci-layers.ts";
import { MAX_LAYERS, RegistryImages } from "./registry-images.ts";

export const HOST_IMAGE = "host";
const IMAGE_ID = /^im-[a-z0-9]{22}$/;
/** A list of layers: of a snapshot, or of an image of the registry that has no id. */
const LIST = /^(?:im-[a-z0-9]{22}|sha256-[0-9a-f]{64})$/;
/** Beside a layer: what the registry calls it. */
const DESCRIPTOR = ".json";
/** Said by `cp` of a path beyond PATH_MAX, which a program reaches by going down folder by folder. */
const TOO_DEEP = /File name too long/;
const TOO_DEEP_DETAIL = "The sandbox holds a path that is too long to copy: more than 4096 bytes.";

/**
 * Snapshots. `dataDir/layers/NAME` is the upper directories of one container, kept; `dataDir/images/ID` lists the
 * layers of an image, newest first, and so does the file `layers` of each sandbox. A layer goes with its last list.
 */
export class Images {
  readonly layerDir: string;
  readonly #dataDir: string;
  readonly #oci: OciLayers;
  readonly #registry: RegistryImages;
  readonly #pulls = new Joined<void>();
  #count = 0;
  /** Lists and layers change one after the other, so that no layer goes between being read and being listed. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(dataDir: string, controlPlaneUrl: string | undefined) {
    this.#dataDir = dataDir;
    this.layerDir = `${dataDir}/layers`;
    this.#oci = new OciLayers(this.layerDir, `${dataDir}/trash`);
    this.#registry = new RegistryImages(this.#oci, controlPlaneUrl);
  }

  /** Also removes what an earlier daemon began and did not end. */
  static async open(dataDir: string, controlPlaneUrl?: string): Promise<Images> {
    for (const name of ["sandboxes", "images", "layers", "trash"])
      await mkdir(`${dataDir}/${name}`, { recursive: true });
    const images = new Images(dataDir, controlPlaneUrl);
    for (const name of await readdir(`${dataDir}/trash`)) await images.#bury(`${dataDir}/trash/${name}`);
    // What has no id can be pulled again whenever it is wanted.
    for (const name of await readdir(`${dataDir}/images`))
      if (!IMAGE_ID.test(name)) await rm(`${dataDir}/images/${name}`, { force: true });
    await images.#collect();
    return images;
  }

  /** Lists the layers of an image in a sandbox's directory: they stay while it does. Pulls it first where it is not here. Throws StartFailure. */
  async lend(
    { image, image_source: source }: Pick<StartSpec, "image" | "image_source">,
    dir: string,
  ): Promise<string[]> {
    const list = source && !IMAGE_ID.test(image) ? source.digest.replace(":", "-") : image;
    if (source) await this.#fetch(list, source);
    return this.#serially(async () => {
      const layers = await this.#layersOf(list);
      if (layers.length > MAX_LAYERS)
        throw new StartFailure(`The image is a chain of more than ${MAX_LAYERS} snapshots.`);
      await mkdir(dir, { mode: 0o700 });
      try {
        await writeFile(`${dir}/layers`, JSON.stringify(layers));
      } catch (error) {
        // Left there, it would fail every later start.
        await this.#bury(dir);
        throw error;
      }
      return layers;
    });
  }

  /** Makes an image of what a sandbox's directory holds. `size`: bytes of its own layer. */
  async keep(imageId: string, dir: string): Promise<{ size: number }> {
    if (!IMAGE_ID.test(imageId)) throw new Error(`${imageId} is no image id.`);
    const below = await readList(`${dir}/layers`);
    const name = `${imageId.slice("im-".length)}${(this.#count++).toString(36)}`;
    const draft = `${this.#dataDir}/trash/${name}.${process.pid}`;
    try {
      await run([...AS_ROOT, "cp", "-a", "--reflink=auto", `${dir}/upper`, draft]);
      const size = Number.parseInt(await run([...AS_ROOT, "du", "-sk", draft]), 10) * 1024;
      await this.#serially(async () => {
        await rename(draft, `${this.layerDir}/${name}`);
        await writeFile(`${draft}.list`, JSON.stringify([name, ...below]));
        await rename(`${draft}.list`, `${this.#dataDir}/images/${imageId}`);
      });
      return { size };
    } catch (error) {
      await this.#bury(draft);
      if (TOO_DEEP.test(String(error))) throw new ApiError("conflict", { detail: TOO_DEEP_DETAIL, cause: error });
      throw error;
    }
  }

  has(imageId: string): boolean {
    return IMAGE_ID.test(imageId) && existsSync(`${this.#dataDir}/images/${imageId}`);
  }

  /** The ids of the snapshots here. */
  async list(): Promise<string[]> {
    return (await readdir(`${this.#dataDir}/images`)).filter((name) => IMAGE_ID.test(name));
  }

  /** Stores a snapshot in the control plane's registry. */
  async push(imageId: string, target: ImageTarget): Promise<{ uploadedBytes: number }> {
    // A list of its own holds the layers until they are stored, whatever becomes of the image.
    const hold = `sandboxes/push.${randomUUID()}`;
    const layers = await this.#serially(async () => {
      const names = await this.#layersOf(imageId);
      await mkdir(`${this.#dataDir}/${hold}`);
      await writeFile(`${this.#dataDir}/${hold}/layers`, JSON.stringify(names));
      return names;
    });
    try {
      return await this.#registry.push(layers.toReversed(), target);
    } finally {
      await this.discard(`${this.#dataDir}/${hold}`);
    }
  }

  /** Brings an image here; once, however many ask for it at the same time. */
  #fetch(list: string, source: ImageSource): Promise<void> {
    if (existsSync(`${this.#dataDir}/images/${list}`)) return Promise.resolve();
    return this.#pulls.run(list, () => this.#pull(list, source));
  }

  async #pull(list: string, source: ImageSource): Promise<void> {
    const path = `${this.#dataDir}/images/${list}`;
    // Layers that are here already stay while the others come, since the list that names them grows with each.
    const named: string[] = [];
    const draft = `${this.#dataDir}/sandboxes/pull.${randomUUID()}`;
    await mkdir(draft);
    try {
      const layers = await this.#registry.pull(source, (layer) =>
        this.#serially(async () => {
          const known = await this.#nameOf(layer);
          named.push(known ?? layer.digest.replace(":", "-"));
          await writeFile(`${draft}/layers`, JSON.stringify(named));
          return { name: named.at(-1)!, isHere: known !== undefined };
        }),
      );
      await writeFile(`${draft}/list`, JSON.stringify(layers.toReversed()));
      await this.#serially(() => rename(`${draft}/list`, path));
    } finally {
      await this.discard(draft);
    }
  }

  /** The layer here that the registry knows by this digest. */
  async #nameOf({ digest, size, diff_id }: StoredLayer): Promise<string | undefined> {
    for (const name of await readdir(this.layerDir)) {
      if (!name.endsWith(DESCRIPTOR)) continue;
      const layer = name.slice(0, -DESCRIPTOR.length);
      const stored = await this.#oci.stored(layer);
      const isSame = stored?.digest === digest && stored.size === size && stored.diff_id === diff_id;
      if (isSame && existsSync(`${this.layerDir}/${layer}`)) return layer;
    }
    return undefined;
  }

  /** Removes an image; nothing happens when there is none. */
  async remove(imageId: string): Promise<void> {
    if (IMAGE_ID.test(imageId)) await this.discard(`${this.#dataDir}/images/${imageId}`);
  }

  /** Removes a list of layers, or a directory with one in it, at once for every reader; nothing happens when there is none. */
  async discard(path: string): Promise<void> {
    await this.#bury(path);
    await this.#serially(() => this.#collect());
  }

  async #layersOf(image: string): Promise<string[]> {
    if (image === HOST_IMAGE) return [];
    const path = `${this.#dataDir}/images/${image}`;
    if (!LIST.test(image) || !existsSync(path)) {
      throw new StartFailure(
        `No image ${JSON.stringify(image)} on this host; it runs "${HOST_IMAGE}" and its own snapshots.`,
      );
    }
    return readList(path);
  }

  async #collect(): Promise<void> {
    const layers = await readdir(this.layerDir);
    if (layers.length === 0) return;
    const lists = [
      ...(await readdir(`${this.#dataDir}/images`)).map((id) => `${this.#dataDir}/images/${id}`),
      ...(await readdir(`${this.#dataDir}/sandboxes`)).map((id) => `${this.#dataDir}/sandboxes/${id}/layers`),
    ];
    const used = new Set((await Promise.all(lists.map(readList))).flat());
    for (const layer of layers) {
      const isUsed = used.has(layer.endsWith(DESCRIPTOR) ? layer.slice(0, -DESCRIPTOR.length) : layer);
      if (!isUsed) await this.#bury(`${this.layerDir}/${layer}`);
    }
  }

  async #bury(path: string): Promise<void> {
    const grave = `${this.#dataDir}/trash/gone.${process.pid}.${Date.now()}.${this.#count++}`;
    try {
      await rename(path, grave);
    } catch (error) {
      if ((await stat(path).catch(() => undefined)) === undefined) return;
      throw error;
    }
    await run([...AS_ROOT, "rm", "-rf", "--", grave]);
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => {});
    return result;
  }
}

async function readList(path: string): Promise<string[]> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as string[];
  } catch (error) {
    // Gone meanwhile, or a start that had not got so far.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
