import { lstatSync, readdirSync, type BigIntStats } from "node:fs";
import { Place } from "./place.ts";

export interface Found {
  /** From the root of the tree, a latin1 string; "" for the root itself. */
  path: string;
  /** In the current directory of this process, which is the one that holds it; "." for the root. */
  name: Buffer;
  stat: BigIntStats;
}

const SEPARATOR = "/";
/** The kernel's, and so of what a program of a sandbox can name. */
const MAX_PATH_BYTES = 4095;

/** Everything in a tree, each directory before what it holds, names in the order of their bytes. */
export function* walk(root: string): Generator<Found> {
  const place = new Place(Buffer.from(root));
  const here = Buffer.from(".");
  yield { path: "", name: here, stat: lstatSync(here, { bigint: true }) };
  yield* walkInto(place, "");
}

function* walkInto(place: Place, prefix: string): Generator<Found> {
  for (const name of readdirSync(".", { encoding: "buffer" }).sort(Buffer.compare)) {
    const path = prefix + name.toString("latin1");
    if (path.length > MAX_PATH_BYTES) throw Object.assign(new Error("File name too long"), { code: "ENAMETOOLONG" });
    const stat = lstatSync(name, { bigint: true });
    yield { path, name, stat };
    if (!stat.isDirectory()) continue;
    place.enter(name.toString("latin1"));
    yield* walkInto(place, path + SEPARATOR);
    place.leave();
  }
}
