import type { LauncherFolders } from "./folders.ts";
import { LABELS } from "./labels.ts";
import { readAdoption, type Adoption } from "./warm-files.ts";

/** Whose a container is. */
export interface Identity {
  sandboxId: string;
  generation: number;
  /** Milliseconds since 1970. */
  deadlineAt: number;
  endImage: string | undefined;
  hasEntrypoint: boolean;
  /** The sandbox's variables where the container was made without them. */
  env: Record<string, string>;
}

/** Of a container that was started ahead and is nobody's yet. */
export const NOBODYS: Identity = {
  sandboxId: "",
  generation: 0,
  deadlineAt: Infinity,
  endImage: undefined,
  hasEntrypoint: false,
  env: {},
};

/** As its labels tell or, where it was started ahead, the file in its folder. Throws when that makes no sense. */
export function identityOf(labels: Record<string, string>, folders: LauncherFolders | undefined): Identity {
  if (labels[LABELS.warm]) {
    const adoption = folders && readAdoption(folders);
    return adoption ? adoptedIdentity(adoption) : NOBODYS;
  }
  return {
    sandboxId: labels[LABELS.sandbox] ?? "",
    generation: Number(labels[LABELS.generation]),
    deadlineAt: Number(labels[LABELS.deadline]),
    endImage: labels[LABELS.endImage] || undefined,
    hasEntrypoint: Boolean(labels[LABELS.entrypoint]),
    env: {},
  };
}

export function adoptedIdentity(adoption: Adoption): Identity {
  return {
    sandboxId: adoption.sandbox_id,
    generation: adoption.generation,
    deadlineAt: adoption.deadline_at,
    endImage: adoption.end_image,
    hasEntrypoint: adoption.has_entrypoint,
    env: adoption.env,
  };
}
