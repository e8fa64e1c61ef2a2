import { BASE_ANNOTATION, HOST_BASE } from "../contract/registry.ts";
import { RegistryError } from "./errors.ts";
import type { Manifests } from "./manifests.ts";
import type { Reference } from "./names.ts";
import type { NamePage, PushedImage, Referrer, ResolvedImage } from "./rpc.ts";

const PREFERRED_PLATFORM = "linux/amd64";
/** Indexes of indexes are followed this far. */
/** Of annotations in one list of referrers: the oldest that fit. An answer has to pass the platform's calls. */
const MAX_REFERRERS_BYTES = 4 * 1024 * 1024;
const MAX_DEPTH = 4;

type ManifestRow = { layers_size: number; annotations: string };
type ReferrerRow = {
  digest: string;
  media_type: string;
  size: number;
  artifact_type: string | null;
  annotations: string;
};

/** What there is, for who only looks. */
export class Listing {
  readonly #sql: SqlStorage;
  readonly #manifests: Manifests;
  readonly #snapshots: string;

  /** `snapshots`: the repository of the environment's snapshots. */
  constructor(sql: SqlStorage, manifests: Manifests, snapshots: string) {
    this.#sql = sql;
    this.#manifests = manifests;
    this.#snapshots = snapshots;
  }

  resolve(repository: string, reference: Reference): ResolvedImage | undefined {
    const digest = this.#manifests.digestOf(repository, reference);
    const own = this.#row(repository, digest);
    if (!own) return undefined;
    const image = this.#row(repository, this.#imageOf(repository, digest)) ?? own;
    return { digest, size: image.layers_size, isHostBased: isHostBased(own) || isHostBased(image) };
  }

  images(after: string | undefined, limit: number): PushedImage[] {
    const rows = this.#sql.exec<{ reference: string; repository: string; digest: string; created_at: number }>(
      `SELECT repository || ':' || tag AS reference, repository, digest, created_at FROM tags
       WHERE reference > ? AND repository <> ? ORDER BY reference LIMIT ?`,
      after ?? "",
      this.#snapshots,
      limit,
    );
    return rows.toArray().map(({ reference, repository, digest, created_at: createdAt }) => {
      const size = this.resolve(repository, { digest })?.size ?? 0;
      return { reference, digest, size, createdAt };
    });
  }

  tags(repository: string, after: string | undefined, limit: number): NamePage {
    const sql = "SELECT 1 FROM manifests WHERE repository = ? LIMIT 1";
    if (this.#sql.exec(sql, repository).toArray().length === 0) throw new RegistryError("NAME_UNKNOWN");
    const rows = this.#sql.exec<{ name: string }>(
      "SELECT tag AS name FROM tags WHERE repository = ? AND tag > ? ORDER BY tag LIMIT ?",
      repository,
      after ?? "",
      limit + 1,
    );
    return pageOf(rows.toArray(), limit);
  }

  repositories(after: string | undefined, limit: number): NamePage {
    const rows = this.#sql.exec<{ name: string }>(
      "SELECT DISTINCT repository AS name FROM manifests WHERE repository > ? ORDER BY repository LIMIT ?",
      after ?? "",
      limit + 1,
    );
    return pageOf(rows.toArray(), limit);
  }

  referrers(repository: string, subject: string, artifactType: string | undefined): Referrer[] {
    const rows = this.#sql.exec<ReferrerRow>(
      `SELECT digest, media_type, length(bytes) AS size, artifact_type, annotations FROM manifests
       WHERE repository = ?1 AND subject = ?2 AND (?3 IS NULL OR artifact_type = ?3) ORDER BY created_at, digest`,
      repository,
      subject,
      artifactType ?? null,
    );
    const found: Referrer[] = [];
    let bytes = 0;
    for (const row of rows) {
      bytes += row.annotations.length;
      if (bytes > MAX_REFERRERS_BYTES) break;
      found.push(describeReferrer(row));
    }
    return found;
  }

  /** The image that most would get of it. */
  #imageOf(repository: string, digest: string): string {
    let image = digest;
    for (let depth = 0; depth < MAX_DEPTH; depth += 1) {
      const [child] = this.#sql
        .exec<{ child: string }>(
          `SELECT child FROM manifest_children WHERE repository = ? AND parent = ?
           ORDER BY platform IS NOT ?, position LIMIT 1`,
          repository,
          image,
          PREFERRED_PLATFORM,
        )
        .toArray();
      if (!child) break;
      image = child.child;
    }
    return image;
  }

  #row(repository: string, digest: string): ManifestRow | undefined {
    const sql = "SELECT layers_size, annotations FROM manifests WHERE repository = ? AND digest = ?";
    return this.#sql.exec<ManifestRow>(sql, repository, digest).toArray()[0];
  }
}

const isHostBased = ({ annotations }: ManifestRow): boolean =>
  (JSON.parse(annotations) as Record<string, string>)[BASE_ANNOTATION] === HOST_BASE;

function describeReferrer(row: ReferrerRow): Referrer {
  const annotations = JSON.parse(row.annotations) as Record<string, string>;
  return {
    mediaType: row.media_type,
    digest: row.digest,
    size: row.size,
    ...(row.artifact_type !== null && { artifactType: row.artifact_type }),
    ...(Object.keys(annotations).length > 0 && { annotations }),
  };
}

function pageOf(rows: { name: string }[], limit: number): NamePage {
  return { names: rows.slice(0, limit).map(({ name }) => name), hasMore: rows.length > limit };
}
