/**
 * Writes the upper directories of an overlay to standard output, as a layer. The same tree gives the same bytes. Runs
 * as a process of its own; see `pack.ts`.
 */
import type { Marks } from "./overlay-marks.ts";
import { Refusal, runScript } from "./script.ts";
import { BLOCK } from "./tar-header.ts";
import { TarOutput } from "./tar-output.ts";
import { TreeWriter } from "./tree-writer.ts";
import { walk } from "./walk.ts";

export interface WriteLayerArgument {
  trees: { directory: string; prefix: string }[];
  sparse: boolean;
  marks: Marks;
}

runScript(({ trees, sparse, marks }: WriteLayerArgument) => {
  const output = new TarOutput(1);
  for (const { directory, prefix } of trees) {
    const writer = new TreeWriter(output, prefix, { sparse, marks });
    const taken = new Set(prefix === "" ? trees.map((tree) => tree.prefix).filter((name) => name !== "") : []);
    try {
      for (const found of walk(directory)) {
        if (taken.has(found.path)) throw new Refusal(`/${found.path} is in two trees.`);
        writer.write(found);
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENAMETOOLONG") throw error;
      throw new Refusal(
        "The sandbox holds a path that is too long to copy: more than 4096 bytes. (File name too long)",
      );
    }
  }
  output.write(Buffer.alloc(2 * BLOCK));
  output.flush();
});
