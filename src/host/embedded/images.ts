import { existsSync } from "node:fs";
import { mkdir, readdir, rename, stat } from "node:fs/promises";
import { StartFailure } from "../runtime.ts";
import { AS_ROOT, run } from "./machine.ts";

export const HOST_IMAGE = "host";
const IMAGE_ID = /^im-[a-z0-9]{22}$/;
/** A mount's options fit in one page. */
const MAX_LAYERS = 100;

/**
 * Snapshots: `dataDir/images/ID/0`, `/1`, … newest last, each the upper directories of one container. Every image
 * holds its whole chain, older layers as hard links, so that none needs another and any can go at any time.
 */
export class Images {
  readonly #dir: string;
  readonly #trash: string;
  #count = 0;

  constructor(dataDir: string) {
    this.#dir = `${dataDir}/images`;
    this.#trash = `${dataDir}/trash`;
  }

  /** The layers of an image, newest first. */
  async layers(image: string): Promise<string[]> {
    if (image === HOST_IMAGE) return [];
    if (!IMAGE_ID.test(image) || !existsSync(`${this.#dir}/${image}`)) {
      throw new StartFailure(`No image ${JSON.stringify(image)} on this host; it runs "${HOST_IMAGE}" and its own snapshots.`);
    }
    const names = await readdir(`${this.#dir}/${image}`);
    return names.map(Number).sort((a, b) => b - a).map(String);
  }

  /**
   * Takes the layers of an image into a container's own directory as hard links, so that the image can be removed
   * while the container runs.
   */
  async lend(image: string, target: string): Promise<string[]> {
    const layers = await this.layers(image);
    if (layers.length > MAX_LAYERS) throw new StartFailure(`The image is a chain of more than ${MAX_LAYERS} snapshots.`);
    if (layers.length === 0) await mkdir(target);
    else {
      await run([...AS_ROOT, "cp", "-al", `${this.#dir}/${image}`, target]);
    }
    return layers;
  }

  /** Makes an image of lent layers and the upper directories above them. */
  async keep(imageId: string, lent: string, upper: string): Promise<{ size: number }> {
    if (!IMAGE_ID.test(imageId)) throw new Error(`${imageId} is no image id.`);
    const layers = (await readdir(lent)).length;
    const draft = `${this.#trash}/${imageId}.${process.pid}.${this.#count++}`;
    try {
      await run([...AS_ROOT, "cp", "-al", lent, draft]);
      await run([...AS_ROOT, "cp", "-a", "--reflink=auto", upper, `${draft}/${layers}`]);
      const sizes = await run([...AS_ROOT, "du", "-sk", `${draft}/${layers}`]);
      if (existsSync(`${this.#dir}/${imageId}`)) await this.remove(imageId);
      await rename(draft, `${this.#dir}/${imageId}`);
      return { size: Number.parseInt(sizes, 10) * 1024 };
    } catch (error) {
      await this.discard(draft);
      throw error;
    }
  }

  async remove(imageId: string): Promise<void> {
    if (!IMAGE_ID.test(imageId)) return;
    await this.discard(`${this.#dir}/${imageId}`);
  }

  /** Removes a directory at once for every reader, its content after that; nothing happens when there is none. */
  async discard(dir: string): Promise<void> {
    const grave = `${this.#trash}/gone.${process.pid}.${this.#count++}`;
    try {
      await rename(dir, grave);
    } catch (error) {
      if ((await stat(dir).catch(() => undefined)) === undefined) return;
      throw error;
    }
    await run([...AS_ROOT, "rm", "-rf", "--", grave]);
  }
}
