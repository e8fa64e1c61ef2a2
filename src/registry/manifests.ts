import { RegistryError } from "./errors.ts";
import type { Blobs } from "./blobs.ts";
import type { Manifest } from "./manifest.ts";
import type { Reference } from "./names.ts";

/** The manifests, the tags, and what the manifests refer to. Called within transactions. */
export class Manifests {
  readonly #sql: SqlStorage;
  readonly #blobs: Blobs;

  constructor(sql: SqlStorage, blobs: Blobs) {
    this.#sql = sql;
    this.#blobs = blobs;
  }

  /** What is checked here is there as long as the manifest is: this object alone deletes it. */
  put(repository: string, tag: string | undefined, manifest: Manifest): void {
    const blobs = this.#checkedBlobs(manifest);
    this.#requireChildren(repository, manifest);
    const { digest, mediaType, bytes, layersSize, subject, artifactType, annotations, children } = manifest;
    const now = Date.now();
    this.#sql.exec(
      `INSERT INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (repository, digest) DO UPDATE SET media_type = excluded.media_type`,
      repository,
      digest,
      mediaType,
      bytes,
      layersSize,
      subject ?? null,
      artifactType ?? null,
      JSON.stringify(annotations),
      now,
    );
    for (const blob of blobs) {
      this.#sql.exec("INSERT OR IGNORE INTO manifest_blobs VALUES (?, ?, ?)", blob, repository, digest);
    }
    children.forEach(({ digest: child, platform }, position) => {
      const values = [repository, digest, position, child, platform ?? null];
      this.#sql.exec("INSERT OR IGNORE INTO manifest_children VALUES (?, ?, ?, ?, ?)", ...values);
    });
    if (tag === undefined) return;
    this.#sql.exec(
      `INSERT INTO tags VALUES (?, ?, ?, ?)
       ON CONFLICT (repository, tag) DO UPDATE SET digest = excluded.digest, created_at = excluded.created_at`,
      repository,
      tag,
      digest,
      now,
    );
  }

  get(repository: string, reference: Reference): { digest: string; mediaType: string; bytes: Uint8Array } | undefined {
    const digest = this.digestOf(repository, reference);
    const [row] = this.#sql
      .exec<{ media_type: string; bytes: ArrayBuffer }>(
        "SELECT media_type, bytes FROM manifests WHERE repository = ? AND digest = ?",
        repository,
        digest,
      )
      .toArray();
    return row && { digest, mediaType: row.media_type, bytes: new Uint8Array(row.bytes) };
  }

  /** The digest that a reference stands for; empty where a tag stands for none. */
  digestOf(repository: string, reference: Reference): string {
    if ("digest" in reference) return reference.digest;
    const sql = "SELECT digest FROM tags WHERE repository = ? AND tag = ?";
    return this.#sql.exec<{ digest: string }>(sql, repository, reference.tag).toArray()[0]?.digest ?? "";
  }

  delete(repository: string, reference: Reference): void {
    const digest = this.digestOf(repository, reference);
    if (!this.#has(repository, digest)) throw new RegistryError("MANIFEST_UNKNOWN");
    if ("tag" in reference) return this.#untag(repository, reference.tag);
    if (this.#isChild(repository, digest)) {
      throw new RegistryError("IN_USE", { message: "An index refers to this manifest: delete that first." });
    }
    this.#remove(repository, digest);
  }

  removeTag(repository: string, tag: string): void {
    const digest = this.digestOf(repository, { tag });
    this.#untag(repository, tag);
    this.#removeUnnamed(repository, digest);
  }

  /** Removes what a push that broke off, or one of the same tag, has left in a repository where only tags count. */
  sweep(repository: string, before: number): void {
    const old = this.#sql.exec<{ digest: string }>(
      "SELECT digest FROM manifests WHERE repository = ? AND created_at <= ?",
      repository,
      before,
    );
    for (const { digest } of old.toArray()) this.#removeUnnamed(repository, digest);
  }

  /** Removes a manifest that neither a tag nor an index names, and then what only it named. */
  #removeUnnamed(repository: string, digest: string): void {
    if (!this.#has(repository, digest) || this.#isChild(repository, digest)) return;
    const sql = "SELECT 1 FROM tags WHERE repository = ? AND digest = ? LIMIT 1";
    if (this.#sql.exec(sql, repository, digest).toArray().length > 0) return;
    const children = this.#sql
      .exec<{ child: string }>(
        "SELECT DISTINCT child FROM manifest_children WHERE repository = ? AND parent = ?",
        repository,
        digest,
      )
      .toArray();
    this.#remove(repository, digest);
    for (const { child } of children) this.#removeUnnamed(repository, child);
  }

  /** Its blobs are kept for a while from now on: somebody may be in the middle of a pull. */
  #remove(repository: string, digest: string): void {
    this.#sql.exec(
      `UPDATE blobs SET touched_at = ? WHERE digest IN
       (SELECT blob FROM manifest_blobs WHERE repository = ? AND manifest = ?)`,
      Date.now(),
      repository,
      digest,
    );
    this.#sql.exec("DELETE FROM manifest_blobs WHERE repository = ? AND manifest = ?", repository, digest);
    this.#sql.exec("DELETE FROM manifest_children WHERE repository = ? AND parent = ?", repository, digest);
    this.#sql.exec("DELETE FROM tags WHERE repository = ? AND digest = ?", repository, digest);
    this.#sql.exec("DELETE FROM manifests WHERE repository = ? AND digest = ?", repository, digest);
  }

  #untag(repository: string, tag: string): void {
    this.#sql.exec("DELETE FROM tags WHERE repository = ? AND tag = ?", repository, tag);
  }

  #checkedBlobs({ blobs }: Manifest): string[] {
    return blobs.map(({ digest, size }) => {
      const there = this.#blobs.sizeOf(digest);
      if (there === undefined) {
        throw new RegistryError("MANIFEST_BLOB_UNKNOWN", {
          message: `The manifest names the blob ${digest}, which is not there.`,
          detail: { digest },
        });
      }
      if (there !== size) {
        throw new RegistryError("SIZE_INVALID", {
          message: `The manifest says that the blob ${digest} is of ${size} bytes; it is of ${there}.`,
          detail: { digest, size: there },
        });
      }
      return digest;
    });
  }

  #requireChildren(repository: string, { children }: Manifest): void {
    const missing = children.find(({ digest }) => !this.#has(repository, digest));
    if (!missing) return;
    throw new RegistryError("MANIFEST_BLOB_UNKNOWN", {
      message: `The index names the manifest ${missing.digest}, which is not in this repository.`,
      detail: { digest: missing.digest },
    });
  }

  #has(repository: string, digest: string): boolean {
    const sql = "SELECT 1 FROM manifests WHERE repository = ? AND digest = ?";
    return this.#sql.exec(sql, repository, digest).toArray().length > 0;
  }

  #isChild(repository: string, digest: string): boolean {
    const sql = "SELECT 1 FROM manifest_children WHERE repository = ? AND child = ? LIMIT 1";
    return this.#sql.exec(sql, repository, digest).toArray().length > 0;
  }
}
