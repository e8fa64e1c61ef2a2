import { z } from "zod";
import { PathSchema } from "./fields.ts";

export const FileQuerySchema = z.object({ path: PathSchema });
/** Octal digits, as chmod takes them. */
export const ModeSchema = z.string().regex(/^[0-7]{3,4}$/, "must be 3 or 4 octal digits");
