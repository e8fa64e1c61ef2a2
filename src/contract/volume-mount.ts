import { z } from "zod";
import { NameSchema, PathSchema } from "./fields.ts";
import { idSchema } from "./ids.ts";

/** Where no volume can be mounted: what a sandbox cannot be without, or what is not its own. */
const RESERVED_MOUNT_POINTS = ["/", "/root", "/tmp"];
const RESERVED_TREES = ["/proc", "/sys", "/dev", "/.sandbar", "/etc", "/usr", "/bin", "/lib", "/lib64", "/sbin"];
const MAX_VOLUMES = 16;

const isBelow = (path: string, tree: string) => path === tree || path.startsWith(`${tree}/`);

/** The absolute path of a mount, as it is: no `.`, no `..`, no `//`, no `/` at its end. */
export const MountPointSchema = PathSchema.refine(
  (path) =>
    path === "/" ||
    path
      .slice(1)
      .split("/")
      .every((part) => part !== "" && part !== "." && part !== ".."),
  "must be a plain absolute path, without `.`, `..` or a slash too many",
)
  .refine((path) => !RESERVED_MOUNT_POINTS.includes(path), `must not be ${RESERVED_MOUNT_POINTS.join(", ")}`)
  .refine((path) => !RESERVED_TREES.some((tree) => isBelow(path, tree)), `must not be in ${RESERVED_TREES.join(", ")}`);

/** A path within a volume, relative to its root: `models/v1`. */
export const SubPathSchema = z
  .string()
  .min(1)
  .max(1024)
  .refine(
    (path) => path.split("/").every((part) => part !== "" && part !== "." && part !== "..") && !path.includes("\0"),
    "must be a plain relative path, without `.`, `..` or a slash too many",
  );

/** One volume as a create mounts it. */
export const VolumeUseSchema = z.strictObject({
  volume_id: NameSchema.meta({ description: "By id or name." }),
  read_only: z.boolean().default(false),
  sub_path: SubPathSchema.optional().meta({
    description: "Mounts this directory of it; it is made if it is not there.",
  }),
});
export type VolumeUse = z.infer<typeof VolumeUseSchema>;

/** Mount points by path. None lies in another. */
export const VolumesSchema = z
  .record(MountPointSchema, VolumeUseSchema)
  .refine((volumes) => Object.keys(volumes).length <= MAX_VOLUMES, `must not mount more than ${MAX_VOLUMES} volumes`)
  .refine((volumes) => {
    const paths = Object.keys(volumes);
    return !paths.some((path) => paths.some((other) => other !== path && isBelow(path, other)));
  }, "must not mount a volume inside of another");
export type Volumes = z.infer<typeof VolumesSchema>;

/** A volume for a host to mount. The token is the grant to read it and, unless `read_only`, to commit. */
export const VolumeMountSchema = z.strictObject({
  path: MountPointSchema,
  volume_id: idSchema("volume"),
  read_only: z.boolean(),
  sub_path: SubPathSchema.optional(),
  token: z.string(),
});
export type VolumeMount = z.infer<typeof VolumeMountSchema>;

/** What of a sandbox's mounts is meant: these paths; all of them if left out. */
export const VolumesOrderSchema = z.strictObject({ paths: z.array(PathSchema).min(1).max(MAX_VOLUMES).optional() });
export type VolumesOrder = z.infer<typeof VolumesOrderSchema>;

/** A mount whose writes are durable. `version`: of the volume then; `uploaded_bytes`: what was sent for it, all in all. */
export const VolumeCommitSchema = z
  .object({
    path: z.string(),
    volume_id: idSchema("volume"),
    version: z.int().min(0),
    changed_files: z.int().min(0).meta({ description: "Written, made or removed since the commit before." }),
    uploaded_bytes: z.int().min(0),
  })
  .meta({ id: "VolumeCommit" });
export type VolumeCommit = z.infer<typeof VolumeCommitSchema>;

/** A mount that shows what is committed. */
export const VolumeReloadSchema = z
  .object({
    path: z.string(),
    volume_id: idSchema("volume"),
    version: z.int().min(0),
    changed_files: z.int().min(0).meta({ description: "That came, changed or went here." }),
    downloaded_bytes: z.int().min(0),
  })
  .meta({ id: "VolumeReload" });
export type VolumeReload = z.infer<typeof VolumeReloadSchema>;
