/**
 * Mounts overlays as a sandbox has them, in namespaces of its own, changes what is in them and writes down what they
 * show then. A process of its own: `view.ts JSON`.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { changeTree, describeTree, makeTree } from "./tree.ts";
import { Random } from "./random.ts";

export interface ViewArgument {
  /** Directories with a folder for each of `TREES`, the newest first. */
  lower: string[];
  /** A directory with `upper` and `work`, where there is to be something to write to. */
  writable?: string;
  at: string;
  options: string;
  seed: number;
  make: number;
  change: number;
  output: string;
}

export const TREES = ["root", "usr"];

if (process.argv[1] === import.meta.filename) {
  const view = JSON.parse(process.argv[2]!) as ViewArgument;
  for (const tree of TREES) mountTree(view, tree);
  const random = new Random(view.seed);
  if (view.change > 0) {
    changeTree(view.at, random, view.change);
    changeTree(`${view.at}/usr`, random, view.change / 4);
  }
  if (view.make > 0) makeTree(view.at, random, view.make);
  writeFileSync(view.output, JSON.stringify([...describeTree(view.at)]));
}

function mountTree({ lower, writable, at, options }: ViewArgument, tree: string): void {
  const target = tree === "root" ? at : `${at}/${tree}`;
  const layers = lower.map((layer) => `${layer}/${tree}`).join(":");
  const upper = writable === undefined ? "" : `,upperdir=${writable}/upper/${tree},workdir=${writable}/work/${tree}`;
  if (writable !== undefined)
    for (const name of ["upper", "work"]) mkdirSync(`${writable}/${name}/${tree}`, { recursive: true });
  execFileSync("mount", ["-t", "overlay", "overlay", "-o", `lowerdir=${layers}${upper},${options}`, target]);
}
