import { ApiError } from "../../contract/errors.ts";
import type { VolumeMount } from "../../contract/volume-mount.ts";

/** What of a mount is not durable; `files` is left out where nobody could count them. */
export interface NotDurable {
  files?: number;
  bytes?: number;
  why: string;
}

/** A commit that is not done, or not of everything. Asked again, it goes on. */
export class NotStored extends Error {
  override readonly name = "NotStored";
  readonly mount: VolumeMount;
  readonly left: NotDurable;

  constructor(mount: VolumeMount, left: NotDurable, cause?: unknown) {
    super(`${mount.path} of ${mount.volume_id}: ${amountOf(left)} not durable yet: ${left.why}`, { cause });
    this.mount = mount;
    this.left = left;
  }
}

function amountOf({ files, bytes = 0 }: NotDurable): string {
  if (files === undefined) return "what was written is";
  return `${files} ${files === 1 ? "file" : "files"} (${bytes} bytes) ${files === 1 ? "is" : "are"}`;
}

/** All of what failed, as a client sees it. */
export function notStored(failures: readonly NotStored[]): ApiError {
  return new ApiError("volume_not_stored", {
    detail: failures.map(({ message }) => message).join("; "),
    retryAfter: 5,
    extra: { paths: failures.map(({ mount }) => mount.path) },
    cause: failures[0],
  });
}
