import { z } from "zod";
import { PathSchema, wholeNumber } from "./fields.ts";

export const FileQuerySchema = z.object({ path: PathSchema });
/** Octal digits, as chmod takes them. */
export const ModeSchema = z.string().regex(/^[0-7]{3,4}$/, "must be 3 or 4 octal digits");

export const FILE_TYPES = ["file", "directory", "symlink", "other"] as const;
export type FileType = (typeof FILE_TYPES)[number];

/**
 * What there is at a path, itself and not what it links to: what `stat` says of it inside of the sandbox. Names that are not UTF-8
 * are shown with U+FFFD in the place of what is not.
 */
export const FileInfoSchema = z
  .object({
    name: z.string().meta({ description: "The last part of the path; `/` of the root." }),
    path: z.string(),
    type: z.enum(FILE_TYPES),
    size: z.int().min(0).meta({ description: "Bytes." }),
    mode: z.string().meta({ description: "Octal, as `stat -c %a` prints it: `644`, `4755`." }),
    permissions: z.string().meta({ description: "As `ls -l` shows them: `-rw-r--r--`." }),
    owner: z.string().meta({ description: "The name of the user in the sandbox; the number of one without." }),
    group: z.string(),
    modified_at: z.iso.datetime().meta({ description: "To the nanosecond where the sandbox tells." }),
    symlink_target: z.string().optional(),
  })
  .meta({ id: "FileInfo" });
export type FileInfo = z.infer<typeof FileInfoSchema>;

export const MAX_LIST_DEPTH = 100;
export const MAX_LISTED_FILES = 10_000;
const DEFAULT_LISTED_FILES = 1000;

/** What of a directory is listed: down to so many levels, so many at most, those behind the path `after`. */
export const FileListRequestSchema = z.object({
  path: PathSchema,
  depth: wholeNumber(1, MAX_LIST_DEPTH).default(1),
  limit: wholeNumber(1, MAX_LISTED_FILES).default(DEFAULT_LISTED_FILES),
  after: z.string().max(8192).optional(),
});
export type FileListRequest = Omit<z.infer<typeof FileListRequestSchema>, "path">;

/** In the order of their paths, by UTF-16 code units. `more`: whether there are others behind the last of these. */
export const FileListSchema = z.object({ data: z.array(FileInfoSchema), more: z.boolean() });
export type FileList = z.infer<typeof FileListSchema>;

export const DirectoryRequestSchema = z
  .strictObject({
    path: PathSchema,
    parents: z
      .boolean()
      .default(false)
      .meta({ description: "Makes its parents, too, and takes one that is there already." }),
  })
  .meta({ id: "DirectoryRequest" });

export const MoveRequestSchema = z
  .strictObject({
    from: PathSchema,
    to: PathSchema.meta({ description: "The new path itself. Its parents are made." }),
  })
  .meta({ id: "MoveRequest" });

/**
 * The event stream of a watch.
 *
 * | event                        | data |
 * | ---------------------------- | ---- |
 * | `ready`                      | `{"path"}`; first: what happens from now on is told |
 * | `create`, `modify`, `remove` | `{"path"}`. `modify`: content, mode, owner or times |
 * | `rename`                     | `{"path", "from"}`: within what is watched. Out of it is a `remove`, into it a `create` |
 * | `overflow`                   | `{}`: more happened than could be told of. What there is must be listed anew; the watch goes on |
 * | `error`                      | a problem document; the last |
 *
 * A comment comes every 15 s. A watch ends when what it watches is gone (a `remove` of it) or the sandbox ends. What the path links
 * to is watched, links below it are not followed; a file that another takes the place of is one that was modified. Refused are more
 * watches than a sandbox may have at a time (`at_capacity`) and more directories than one takes (`payload_too_large`).
 */
export const WATCH_EVENTS = ["ready", "create", "modify", "remove", "rename", "overflow"] as const;
export const WatchEventSchema = z.object({
  event: z.enum(WATCH_EVENTS),
  path: z.string().optional(),
  from: z.string().optional(),
});
export type WatchEvent = z.infer<typeof WatchEventSchema>;
