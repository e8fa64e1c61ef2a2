import { createHash, randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { access, rm, stat } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { hashing } from "../layers/hashing.ts";
import { hasUserXattrs, packLayer } from "../layers/pack.ts";
import type { ContainerInspectInfo, Engine } from "./engine.ts";
import { patiently } from "./patience.ts";

/** The layer of a container, as a file of this machine. */
export interface PackedLayer {
  path: string;
  size: number;
  /** The digest of the file. */
  diffId: string;
}

/**
 * Where a container keeps what it has changed, if this daemon may look there and an engine's commit would not take all of it along:
 * Docker's leaves out every extended attribute but `security.capability`, and access lists.
 */
export async function upperThatCommitLoses({ GraphDriver }: ContainerInspectInfo): Promise<string | undefined> {
  const { UpperDir } = (GraphDriver?.Data ?? {}) as { UpperDir?: string };
  if (GraphDriver?.Name !== "overlay2" || UpperDir === undefined) return undefined;
  const isReadable = await access(UpperDir).then(
    () => true,
    () => false,
  );
  // What cannot be looked through is left to the engine.
  return isReadable && (await hasUserXattrs(UpperDir).catch(() => false)) ? UpperDir : undefined;
}

/** Packs what a container has changed, while it stands still, and lends the file to `use`. */
export async function withExactLayer<T>(
  engine: Engine,
  containerId: string,
  upper: string,
  draftDir: string,
  use: (layer: PackedLayer) => Promise<T>,
): Promise<T> {
  const path = `${draftDir}/layer.${randomUUID()}.tar`;
  const hash = createHash("sha256");
  try {
    try {
      await engine.pause(containerId);
      const tar = packLayer([{ directory: upper, prefix: "" }], { sparse: false, marks: "trusted" });
      await pipeline(tar, hashing(hash), createWriteStream(path, { mode: 0o600 }));
    } finally {
      // A pause that was given up may have come to pass; one that did not is what the engine then says.
      await patiently(() => engine.unpause(containerId)).catch(() => undefined);
    }
    return await use({ path, size: (await stat(path)).size, diffId: `sha256:${hash.digest("hex")}` });
  } finally {
    await rm(path, { force: true });
  }
}
