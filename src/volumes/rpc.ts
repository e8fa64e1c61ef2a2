import type { ByteRange } from "../contract/byte-range.ts";
import type { FileInfo, FileList, FileListRequest } from "../contract/file.ts";
import type { VolumeDetail } from "../contract/volume.ts";
import type { ChunkPlace, CommitPart, VolumeChanges, VolumeGrant } from "../contract/volume-sync.ts";

/** Whose the volume must be for the caller to see it. */
export type VolumeScope = Pick<VolumeGrant, "environment">;

/** What a grant lets a host see of it: all of it, or what lies below a path. */
export type GrantScope = Pick<VolumeGrant, "environment" | "prefix">;

/** What is in a volume, and what is stored for that. */
export type VolumeContents = Pick<VolumeDetail, "version" | "committed_at" | "files" | "size" | "stored_size">;

export interface ChangesRequest {
  since: number;
  /** The cursor of the page before. */
  after: string | undefined;
  /** Only what lies below. */
  prefix: string | undefined;
  limit: number;
}

/** Bytes of a pack. */
export type Piece = {
  pack: string;
  offset: number;
  length: number;
};

/** What was asked for of a file's content, in order. `range`: which of its bytes those are, where not all were asked for. */
export interface FileContent {
  size: number;
  range: { first: number; last: number } | undefined;
  pieces: Piece[];
}

/**
 * The object of a volume. All but `create` throw `volume_not_found` where there is none: it was not made, it is of another
 * environment, or it is being deleted. What hosts ask for is as `contract/volume-sync.ts` has it; paths within a volume are
 * relative there, and absolute for those who read files.
 */
export interface VolumeRpc {
  /** Makes the volume, empty; again, it changes nothing. Throws `volume_not_found` where it was made for another environment, or deleted. */
  create(environment: string, volumeId: string): Promise<void>;
  /** The volume is gone from now on; its bytes go soon. One that is not there is gone already. */
  destroy(scope: VolumeScope): Promise<void>;
  /**
   * For whoever makes or deletes it, and may be lost in the middle: after a while it looks whether the catalog has it, and goes where
   * that does not. One that is not there is gone already.
   */
  confirmLater(scope: VolumeScope, afterMs: number): Promise<void>;
  contents(scope: VolumeScope): Promise<VolumeContents>;

  // For hosts.

  /** Nothing but that the volume is there: packs go past it. One that is written is to be swept where nothing comes of it. */
  admit(scope: GrantScope, access: VolumeGrant["access"]): Promise<void>;
  changes(scope: GrantScope, request: ChangesRequest): Promise<VolumeChanges>;
  missing(scope: GrantScope, hashes: string[]): Promise<string[]>;
  /** Those that it has, in no order. */
  locate(scope: GrantScope, hashes: string[]): Promise<ChunkPlace[]>;
  stagePart(scope: GrantScope, commitId: string, number: number, part: CommitPart): Promise<void>;
  /** Answers the version. */
  commit(scope: GrantScope, commitId: string, parts: number): Promise<number>;

  // Its files, without a sandbox. They throw `file_not_found`, `not_a_file`, `not_a_directory`, `range_not_satisfiable`.

  /** Of the path itself, not of what it links to. */
  stat(scope: VolumeScope, path: string): Promise<FileInfo>;
  list(scope: VolumeScope, path: string, request: FileListRequest): Promise<FileList>;
  /** Where the bytes of the file lie that the path leads to, through links that stay within the volume. */
  content(scope: VolumeScope, path: string, range: ByteRange | undefined): Promise<FileContent>;
}
