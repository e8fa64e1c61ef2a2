import { mkdir } from "node:fs/promises";
import { finished, type Readable } from "node:stream";
import { AS_ROOT, isRoot, run } from "../linux/programs.ts";
import type { ExtractLayerArgument } from "./extract-layer.ts";
import { startScript } from "./script.ts";

/** A layer that is broken or out for harm; the message, a clause of a sentence, says how, and may be shown. */
export class BadLayer extends Error {
  override readonly name = "BadLayer";
}

/**
 * Unpacks one layer, a plain tar archive, into `destination`, which must not be there yet: one folder for each of
 * `trees`, in the shape of an overlay's upper directory, to be mounted as a lower one. What is not below another tree's
 * name belongs to the tree `root`. The layer needs no trust: what it says can only change what is in `destination`. On
 * any failure nothing is left there, and the stream is destroyed with the error. Throws BadLayer, or another Error
 * where the machine or the stream is to blame.
 */
export async function unpackLayer(layer: Readable, destination: string, trees: string[]): Promise<void> {
  const broken = new AbortController();
  // Without this, the end of what has come so far would pass for the end of the layer.
  finished(layer, { writable: false }, (error) => {
    if (error) broken.abort(error);
  });
  try {
    await mkdir(destination);
    await extract(layer, destination, trees, broken.signal).catch(async (error: unknown) => {
      await run([...AS_ROOT, "rm", "-rf", "--", destination]);
      throw error;
    });
  } catch (error) {
    layer.destroy(error as Error);
    throw error;
  }
}

async function extract(layer: Readable, destination: string, trees: string[], broken: AbortSignal): Promise<void> {
  for (const tree of trees) await mkdir(`${destination}/${tree}`, { mode: 0o755 });
  const marks = isRoot ? "trusted" : "user";
  const argument: ExtractLayerArgument = { destination, trees, marks, privileged: isRoot };
  broken.throwIfAborted();
  const { child, ended } = startScript("extract-layer", argument, (reason) => new BadLayer(reason));
  broken.addEventListener("abort", () => child.kill("SIGKILL"));
  // What is wrong with the layer the script says itself, and then reads no more.
  child.stdin!.on("error", () => {});
  layer.pipe(child.stdin!);
  await ended.catch((error: unknown) => {
    broken.throwIfAborted();
    throw error;
  });
  broken.throwIfAborted();
}
