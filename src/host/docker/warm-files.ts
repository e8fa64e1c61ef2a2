import { readFileSync } from "node:fs";
import { z } from "zod";
import { EnvSchema } from "../../contract/fields.ts";
import { type StartSpec, type WarmSpec, WarmSpecSchema } from "../../contract/host-protocol.ts";
import { idSchema } from "../../contract/ids.ts";
import { writeWhole } from "../whole-file.ts";
import type { LauncherFolders } from "./folders.ts";

/** What a container that was started ahead is as a sandbox's: all that the labels of another one tell. */
const AdoptionSchema = z.object({
  sandbox_id: idSchema("sandbox"),
  generation: z.int(),
  /** Milliseconds since 1970. */
  deadline_at: z.int(),
  end_image: idSchema("image").optional(),
  has_entrypoint: z.boolean(),
  /** The sandbox's variables: the container itself was made without. */
  env: EnvSchema,
});
export type Adoption = z.infer<typeof AdoptionSchema>;

const adoptionPath = ({ stateDir }: LauncherFolders) => `${stateDir}/adoption.json`;
const specPath = ({ stateDir }: LauncherFolders) => `${stateDir}/warm.json`;

/** Writes down whose the container is from now on. It is on the disk then. */
export function keepAdoption(folders: LauncherFolders, spec: StartSpec): Adoption {
  const adoption: Adoption = {
    sandbox_id: spec.sandbox_id,
    generation: spec.generation,
    deadline_at: Date.now() + spec.lifetime_ms,
    ...(spec.end_image !== undefined && { end_image: spec.end_image }),
    has_entrypoint: spec.entrypoint !== undefined,
    env: spec.env,
  };
  writeWhole(adoptionPath(folders), JSON.stringify(adoption));
  return adoption;
}

/** Undefined while the container is nobody's. Throws when what is there makes no sense. */
export function readAdoption(folders: LauncherFolders): Adoption | undefined {
  const text = readIfThere(adoptionPath(folders));
  return text === undefined ? undefined : AdoptionSchema.parse(JSON.parse(text));
}

/** Writes down what the container was made from; the grant to pull its image is no part of it. */
export function keepWarmSpec(folders: LauncherFolders, { image_source, ...spec }: WarmSpec): void {
  const source = image_source && { image_source: { ...image_source, token: "" } };
  writeWhole(specPath(folders), JSON.stringify({ ...spec, ...source } satisfies WarmSpec));
}

/** Undefined where nobody knows any more. */
export function readWarmSpec(folders: LauncherFolders): WarmSpec | undefined {
  try {
    return WarmSpecSchema.parse(JSON.parse(readFileSync(specPath(folders), "utf8")));
  } catch {
    return undefined;
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
