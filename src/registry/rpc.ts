import type { Manifest } from "./manifest.ts";
import type { Reference } from "./names.ts";

/** A blob and the key of its bytes in the bucket. */
export interface StoredBlob {
  key: string;
  size: number;
}

/** What a writer of an upload finds there. */
export interface Claim {
  /** Names the writer in everything that it does to the upload. */
  writer: string;
  /** Where a multipart upload of it goes. */
  key: string;
  /** Where this writer puts what is no whole part. */
  ownTailKey: string;
  /** The multipart upload that is begun, and how many parts of it are there. */
  multipartId: string | undefined;
  parts: number;
  /** The bytes behind the last part. */
  tail: StoredBlob | undefined;
  /** All bytes there are. */
  offset: number;
  /** The digest of all of them, where they came in one request. */
  digest: string | undefined;
}

/** What a writer leaves. */
export interface Written {
  /** Size of what it has put at its own tail's key; undefined where the tail is what it was. */
  tailSize: number | undefined;
  /** The digest of the whole content, where the writer has seen all of it. */
  digest: string | undefined;
}

/** What stands behind a reference. */
export interface ResolvedImage {
  digest: string;
  /** Of its layers, compressed, in bytes; of an index: of its image for linux/amd64, or else of its first. */
  size: number;
  /** Whether its layers lie over a machine's own programs: see `BASE_ANNOTATION`. */
  isHostBased: boolean;
}

/** A tag outside of the snapshots. */
export interface PushedImage {
  /** `<environment>/<name>:<tag>` */
  reference: string;
  digest: string;
  size: number;
  /** When the tag came to name what it does; milliseconds since 1970. */
  createdAt: number;
}

/** A page of names, in order. */
export interface NamePage {
  names: string[];
  hasMore: boolean;
}

/** A descriptor of the list of referrers. */
export interface Referrer {
  mediaType: string;
  digest: string;
  size: number;
  artifactType?: string;
  annotations?: Record<string, string>;
}

/**
 * What the Worker may ask of the object of an environment's registry. Repositories are whole names, `<environment>/<name>`, of
 * this environment: the caller has seen to that. Refusals are thrown as `RegistryError`.
 */
export interface RegistryRpc {
  // For the rest of Sandbar.

  /** What a tag or a digest of a repository stands for; undefined where there is none. */
  resolve(repository: string, reference: Reference): Promise<ResolvedImage | undefined>;
  /** Every tag outside of the snapshots whose reference comes behind `after`, in the order of the references. */
  images(after: string | undefined, limit: number): Promise<PushedImage[]>;
  /**
   * Removes a tag. What it named goes too, unless another tag or an index names it; of an index that goes, so do the manifests
   * that nothing else names. Safe to repeat.
   */
  removeTag(repository: string, tag: string): Promise<void>;
  /** Makes sure that there will be a sweep, as for an image of the catalog whose time will be over. */
  arm(): Promise<void>;

  // Blobs.

  /** The blob, which is kept for a while because of this; undefined where there is none. */
  findBlob(digest: string): Promise<StoredBlob | undefined>;
  /** Throws BLOB_UNKNOWN, and IN_USE while a manifest refers to it. */
  deleteBlob(digest: string): Promise<void>;

  // Uploads. A writer that was away for too long, or whose upload was given up, is told BLOB_UPLOAD_UNKNOWN.

  openUpload(repository: string): Promise<string>;
  /** The bytes there are. */
  uploadOffset(repository: string, uploadId: string): Promise<number>;
  /**
   * Makes the caller the one writer of the upload. Throws BLOB_UPLOAD_BUSY where another is at it, and BLOB_UPLOAD_OUT_OF_ORDER
   * where the bytes there do not end at `offset`. It is held for `CLAIM_MS` from the last call of the writer.
   */
  claimUpload(repository: string, uploadId: string, offset: number | undefined): Promise<Claim>;
  renewClaim(uploadId: string, writer: string): Promise<void>;
  /** To be told before the first part is uploaded. */
  multipartBegun(uploadId: string, writer: string, multipartId: string): Promise<void>;
  /** The part, which takes in the tail there was, counts from now on. */
  partUploaded(uploadId: string, writer: string, part: number, etag: string): Promise<void>;
  /** The bytes of the writer count from now on. */
  uploadWritten(uploadId: string, writer: string, written: Written): Promise<void>;
  /** The writer is done, however it went. */
  releaseUpload(uploadId: string, writer: string): Promise<void>;
  /** The etags of the parts, the first one first. */
  partsOf(uploadId: string, writer: string): Promise<string[]>;
  /** The upload becomes the blob. Where there is one of this digest already, that one stays. */
  finishUpload(uploadId: string, writer: string, digest: string, blob: StoredBlob): Promise<void>;
  /** Gives the upload up, also under the hands of a writer. */
  discardUpload(repository: string, uploadId: string): Promise<void>;
  /** The same, by the writer itself: its content is not what it was said to be. */
  abandonUpload(uploadId: string, writer: string): Promise<void>;

  // Manifests and lists.

  /** Throws MANIFEST_BLOB_UNKNOWN or SIZE_INVALID unless all is there that it names. */
  putManifest(repository: string, tag: string | undefined, manifest: Manifest): Promise<void>;
  getManifest(
    repository: string,
    reference: Reference,
  ): Promise<{ digest: string; mediaType: string; bytes: Uint8Array } | undefined>;
  /** A tag alone, or a manifest with its tags. Throws MANIFEST_UNKNOWN, and IN_USE while an index refers to the manifest. */
  deleteManifest(repository: string, reference: Reference): Promise<void>;
  /** Throws NAME_UNKNOWN where the repository holds nothing. */
  tags(repository: string, after: string | undefined, limit: number): Promise<NamePage>;
  repositories(after: string | undefined, limit: number): Promise<NamePage>;
  referrers(repository: string, subject: string, artifactType: string | undefined): Promise<Referrer[]>;
}
