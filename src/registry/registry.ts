import { DurableObject } from "cloudflare:workers";
import { ImageCatalog } from "../catalog/images.ts";
import { graceOf, type GraceVariables } from "./grace.ts";
import type { Manifest } from "./manifest.ts";
import type { Reference } from "./names.ts";
import { Parts } from "./parts.ts";
import { replyWith, type Replies, type Reply } from "./reply.ts";
import type { RegistryRpc, StoredBlob, Written } from "./rpc.ts";
import { holdsAnything } from "./schema.ts";
import { sweep } from "./sweep.ts";

export interface RegistryEnv extends GraceVariables {
  DB: D1Database;
  SNAPSHOTS: R2Bucket;
}

/**
 * The registry of one environment: the one owner of what there is, so that what is checked for one push is still so when it is
 * written, whatever others push or delete and whatever is swept. The bytes of blobs go past it. Its name is the environment's.
 */
export class Registry<Env extends RegistryEnv = RegistryEnv>
  extends DurableObject<Env>
  implements Replies<RegistryRpc>
{
  readonly #parts: Parts;
  /** Whether the alarm is known to be set. */
  #isArmed = false;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#parts = new Parts(ctx.storage, ctx.id.name, env.SNAPSHOTS, graceOf(env));
  }

  resolve(repository: string, reference: Reference) {
    return replyWith(() => this.#parts.listing.resolve(repository, reference));
  }

  images(after: string | undefined, limit: number) {
    return replyWith(() => this.#parts.listing.images(after, limit));
  }

  removeTag(repository: string, tag: string) {
    return this.#change(({ manifests }) => manifests.removeTag(repository, tag));
  }

  arm(): Promise<Reply<void>> {
    return replyWith(() => this.#arm());
  }

  findBlob(digest: string) {
    return this.#change(({ blobs }) => blobs.find(digest));
  }

  deleteBlob(digest: string) {
    return this.#change(({ blobs }) => blobs.delete(digest), "leaves garbage");
  }

  openUpload(repository: string) {
    return this.#change(({ uploads }) => uploads.open(repository), "is there to be swept");
  }

  uploadOffset(repository: string, uploadId: string) {
    return replyWith(() => this.#parts.uploads.offset(repository, uploadId));
  }

  claimUpload(repository: string, uploadId: string, offset: number | undefined) {
    return this.#change(({ uploads }) => uploads.claim(repository, uploadId, offset));
  }

  renewClaim(uploadId: string, writer: string) {
    return this.#change(({ uploads }) => uploads.renew(uploadId, writer));
  }

  multipartBegun(uploadId: string, writer: string, multipartId: string) {
    return this.#change(({ uploads }) => uploads.multipartBegun(uploadId, writer, multipartId));
  }

  partUploaded(uploadId: string, writer: string, part: number, etag: string) {
    return this.#change(({ uploads }) => uploads.partUploaded(uploadId, writer, part, etag), "leaves garbage");
  }

  uploadWritten(uploadId: string, writer: string, written: Written) {
    return this.#change(({ uploads }) => uploads.written(uploadId, writer, written), "leaves garbage");
  }

  releaseUpload(uploadId: string, writer: string) {
    return this.#change(({ uploads }) => uploads.release(uploadId, writer), "leaves garbage");
  }

  partsOf(uploadId: string, writer: string) {
    return this.#change(({ uploads }) => uploads.parts(uploadId, writer));
  }

  finishUpload(uploadId: string, writer: string, digest: string, blob: StoredBlob) {
    return this.#change(({ uploads }) => uploads.finish(uploadId, writer, digest, blob), "leaves garbage");
  }

  discardUpload(repository: string, uploadId: string) {
    return this.#change(({ uploads }) => uploads.discard(repository, uploadId), "leaves garbage");
  }

  abandonUpload(uploadId: string, writer: string) {
    return this.#change(({ uploads }) => uploads.abandon(uploadId, writer), "leaves garbage");
  }

  putManifest(repository: string, tag: string | undefined, manifest: Manifest) {
    return this.#change(({ manifests }) => manifests.put(repository, tag, manifest), "is there to be swept");
  }

  getManifest(repository: string, reference: Reference) {
    return replyWith(() => this.#parts.manifests.get(repository, reference));
  }

  deleteManifest(repository: string, reference: Reference) {
    return this.#change(({ manifests }) => manifests.delete(repository, reference));
  }

  tags(repository: string, after: string | undefined, limit: number) {
    return replyWith(() => this.#parts.listing.tags(repository, after, limit));
  }

  repositories(after: string | undefined, limit: number) {
    return replyWith(() => this.#parts.listing.repositories(after, limit));
  }

  referrers(repository: string, subject: string, artifactType: string | undefined) {
    return replyWith(() => this.#parts.listing.referrers(repository, subject, artifactType));
  }

  override async alarm(): Promise<void> {
    this.#isArmed = false;
    const catalog = new ImageCatalog(this.env.DB);
    await sweep(this.#parts, catalog);
    if (holdsAnything(this.ctx.storage.sql) || (await hasImages(catalog, this.#parts.environment))) await this.#arm();
  }

  /** One transaction, and what follows from it. */
  #change<T>(change: (parts: Parts) => T, consequence?: "leaves garbage" | "is there to be swept"): Promise<Reply<T>> {
    return replyWith(async () => {
      const value = this.#parts.transaction(() => change(this.#parts));
      if (consequence === "is there to be swept") await this.#arm();
      if (consequence === "leaves garbage") this.ctx.waitUntil(this.#collect());
      return value;
    });
  }

  /** What the bucket does not delete now it is asked to at the next sweep. */
  async #collect(): Promise<void> {
    await this.#parts.garbage.collect().catch(() => undefined);
  }

  async #arm(): Promise<void> {
    if (this.#isArmed) return;
    this.#isArmed = true;
    const { storage } = this.ctx;
    if ((await storage.getAlarm()) === null) await storage.setAlarm(Date.now() + this.#parts.grace.sweptEveryMs);
  }
}

/** Images of a platform's own are in the catalog alone, and go at their time, too. A catalog that does not answer is asked later. */
async function hasImages(catalog: ImageCatalog, environment: string): Promise<boolean> {
  return catalog.hasAny(environment).catch(() => true);
}
