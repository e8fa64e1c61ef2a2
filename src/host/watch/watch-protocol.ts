import type { WatchEvent } from "../../contract/file.ts";
import type { ErrorCode } from "../../contract/errors.ts";

/** What the daemon's thread tells the one that watches. A byte on the wake pipe goes with it. */
export type WatchCommand =
  /** `root` is the watch's from now on. */
  | { kind: "open"; key: number; root: number; path: string; recursive: boolean }
  | { kind: "close"; key: number }
  | { kind: "end" };

/** Why a watch cannot be, or goes on no more. */
export interface WatchRefusal {
  code: ErrorCode;
  detail?: string | undefined;
  retryAfter?: number | undefined;
}

export type WatchNews =
  | { kind: "ready"; key: number }
  | { kind: "events"; key: number; events: WatchEvent[] }
  /** The last of a key: what it watched is gone, or it was refused. */
  | { kind: "ended"; key: number; refusal?: WatchRefusal };
