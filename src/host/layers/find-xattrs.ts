/** Says "yes" where a file below a directory has attributes that Docker's commit loses. A process of its own. */
import { writeSync } from "node:fs";
import { listXattrs } from "../linux/xattr.ts";
import { isPortableXattr } from "./overlay-marks.ts";
import { runScript } from "./script.ts";
import { walk } from "./walk.ts";

runScript(({ directory }: { directory: string }) => {
  for (const { name } of walk(directory)) {
    if (!listXattrs(name).some((xattr) => isPortableXattr(xattr) && xattr !== "security.capability")) continue;
    writeSync(1, "yes");
    return;
  }
});
