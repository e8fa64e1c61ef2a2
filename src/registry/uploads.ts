import type { Blobs } from "./blobs.ts";
import { RegistryError } from "./errors.ts";
import type { Garbage } from "./garbage.ts";
import type { Grace } from "./grace.ts";
import { environmentOf } from "./names.ts";
import { PART_BYTES } from "./part-size.ts";
import type { Claim, StoredBlob, Written } from "./rpc.ts";

/** How long a writer of whom nothing is heard keeps others away. It says that it is there every few seconds. */
export const CLAIM_MS = 30_000;

type UploadRow = {
  upload_id: string;
  repository: string;
  key: string;
  multipart_id: string | null;
  tail_key: string | null;
  tail_size: number;
  digest: string | null;
  writer: string | null;
  claimed_until: number;
};

const ownTailKey = (key: string, writer: string) => `${key}.${writer}`;

/**
 * The uploads that are under way. All keys that a writer may put bytes at follow from what stands here before it does, so that
 * whatever a crash leaves can be found. Called within transactions.
 */
export class Uploads {
  readonly #sql: SqlStorage;
  readonly #garbage: Garbage;
  readonly #blobs: Blobs;
  readonly #grace: Grace;

  constructor(sql: SqlStorage, garbage: Garbage, blobs: Blobs, grace: Grace) {
    this.#sql = sql;
    this.#garbage = garbage;
    this.#blobs = blobs;
    this.#grace = grace;
  }

  open(repository: string): string {
    const uploadId = crypto.randomUUID();
    // Not the digest: deleting what is garbage late can then never hit a newer upload of the same content.
    const key = `blobs/${environmentOf(repository)}/${uploadId}`;
    this.#sql.exec(
      "INSERT INTO uploads (upload_id, repository, key, touched_at) VALUES (?, ?, ?, ?)",
      uploadId,
      repository,
      key,
      Date.now(),
    );
    return uploadId;
  }

  offset(repository: string, uploadId: string): number {
    return this.#offsetOf(this.#of(repository, uploadId));
  }

  claim(repository: string, uploadId: string, offset: number | undefined): Claim {
    const row = this.#of(repository, uploadId);
    const there = this.#offsetOf(row);
    const now = Date.now();
    if (row.writer !== null && row.claimed_until > now) {
      throw new RegistryError("BLOB_UPLOAD_BUSY", { detail: { offset: there } });
    }
    if (offset !== undefined && offset !== there) {
      const message = `The upload has ${there} bytes: the next ones begin there, not at ${offset}.`;
      throw new RegistryError("BLOB_UPLOAD_OUT_OF_ORDER", { message, detail: { offset: there } });
    }
    this.#dropOwnTail(row, now + this.#grace.keptMs);
    const writer = crypto.randomUUID();
    this.#sql.exec("UPDATE uploads SET writer = ? WHERE upload_id = ?", writer, uploadId);
    this.renew(uploadId, writer);
    return {
      writer,
      key: row.key,
      ownTailKey: ownTailKey(row.key, writer),
      multipartId: row.multipart_id ?? undefined,
      parts: this.#countParts(uploadId),
      tail: row.tail_key === null ? undefined : { key: row.tail_key, size: row.tail_size },
      offset: there,
      digest: row.digest ?? undefined,
    };
  }

  renew(uploadId: string, writer: string): void {
    this.#held(uploadId, writer);
  }

  multipartBegun(uploadId: string, writer: string, multipartId: string): void {
    this.#held(uploadId, writer);
    this.#sql.exec("UPDATE uploads SET multipart_id = ? WHERE upload_id = ?", multipartId, uploadId);
  }

  partUploaded(uploadId: string, writer: string, part: number, etag: string): void {
    this.#setTail(this.#held(uploadId, writer), null, 0, null);
    this.#sql.exec("INSERT INTO upload_parts VALUES (?, ?, ?)", uploadId, part, etag);
  }

  written(uploadId: string, writer: string, { tailSize, digest }: Written): void {
    const row = this.#held(uploadId, writer);
    if (tailSize !== undefined) this.#setTail(row, ownTailKey(row.key, writer), tailSize, null);
    if (digest !== undefined) {
      this.#sql.exec("UPDATE uploads SET digest = ? WHERE upload_id = ?", digest, uploadId);
    }
  }

  /** Nothing to whom the upload is not any more. */
  release(uploadId: string, writer: string): void {
    const row = this.#row(uploadId);
    if (row?.writer !== writer) return;
    this.#dropOwnTail(row, Date.now());
    this.#sql.exec("UPDATE uploads SET writer = NULL WHERE upload_id = ?", uploadId);
  }

  parts(uploadId: string, writer: string): string[] {
    this.#held(uploadId, writer);
    return this.#sql
      .exec<{ etag: string }>("SELECT etag FROM upload_parts WHERE upload_id = ? ORDER BY part", uploadId)
      .toArray()
      .map(({ etag }) => etag);
  }

  finish(uploadId: string, writer: string, digest: string, blob: StoredBlob): void {
    const { tail_key: tailKey } = this.#held(uploadId, writer);
    this.#blobs.add(digest, blob);
    if (tailKey !== null && tailKey !== blob.key) this.#garbage.add(tailKey, Date.now());
    this.#forget(uploadId);
  }

  discard(repository: string, uploadId: string): void {
    const row = this.#of(repository, uploadId);
    // A writer that does not know yet may put bytes there for a moment.
    this.#drop(row, row.writer === null ? Date.now() : Date.now() + this.#grace.keptMs);
  }

  abandon(uploadId: string, writer: string): void {
    this.#drop(this.#held(uploadId, writer), Date.now());
  }

  /** Gives up what nobody has written to for long. */
  sweep(now: number): void {
    const stale = this.#sql.exec<UploadRow>(
      "SELECT * FROM uploads WHERE touched_at <= ? AND (writer IS NULL OR claimed_until <= ?)",
      now - this.#grace.keptMs,
      now,
    );
    for (const row of stale.toArray()) this.#drop(row, now);
  }

  #drop(row: UploadRow, dueAt: number): void {
    if (row.multipart_id !== null) this.#garbage.add(row.key, dueAt, row.multipart_id);
    this.#dropOwnTail(row, dueAt);
    if (row.tail_key !== null) this.#garbage.add(row.tail_key, dueAt);
    this.#forget(row.upload_id);
  }

  /** What the writer may have put at its own key and not told of. */
  #dropOwnTail({ key, writer, tail_key: tailKey }: UploadRow, dueAt: number): void {
    if (writer !== null && ownTailKey(key, writer) !== tailKey) this.#garbage.add(ownTailKey(key, writer), dueAt);
  }

  #setTail(row: UploadRow, key: string | null, size: number, digest: string | null): void {
    if (row.tail_key !== null && row.tail_key !== key) this.#garbage.add(row.tail_key, Date.now());
    this.#sql.exec(
      "UPDATE uploads SET tail_key = ?, tail_size = ?, digest = ? WHERE upload_id = ?",
      key,
      size,
      digest,
      row.upload_id,
    );
  }

  #forget(uploadId: string): void {
    this.#sql.exec("DELETE FROM uploads WHERE upload_id = ?", uploadId);
    this.#sql.exec("DELETE FROM upload_parts WHERE upload_id = ?", uploadId);
  }

  #held(uploadId: string, writer: string): UploadRow {
    const row = this.#row(uploadId);
    if (row?.writer !== writer) throw new RegistryError("BLOB_UPLOAD_UNKNOWN");
    const now = Date.now();
    this.#sql.exec(
      "UPDATE uploads SET claimed_until = ?, touched_at = ? WHERE upload_id = ?",
      now + CLAIM_MS,
      now,
      uploadId,
    );
    return row;
  }

  #of(repository: string, uploadId: string): UploadRow {
    const row = this.#row(uploadId);
    if (row?.repository !== repository) throw new RegistryError("BLOB_UPLOAD_UNKNOWN");
    return row;
  }

  #row(uploadId: string): UploadRow | undefined {
    return this.#sql.exec<UploadRow>("SELECT * FROM uploads WHERE upload_id = ?", uploadId).toArray()[0];
  }

  #offsetOf({ upload_id: uploadId, tail_size: tailSize }: UploadRow): number {
    return this.#countParts(uploadId) * PART_BYTES + tailSize;
  }

  #countParts(uploadId: string): number {
    const sql = "SELECT count(*) AS n FROM upload_parts WHERE upload_id = ?";
    return this.#sql.exec<{ n: number }>(sql, uploadId).one().n;
  }
}
