import { snapshotsOf } from "../contract/registry.ts";
import { BlobStore } from "./blob-store.ts";
import { Blobs } from "./blobs.ts";
import { Garbage } from "./garbage.ts";
import type { Grace } from "./grace.ts";
import { Listing } from "./listing.ts";
import { Manifests } from "./manifests.ts";
import { createTables, environmentIn } from "./schema.ts";
import { Uploads } from "./uploads.ts";

/** What the object of a registry is made of. */
export class Parts {
  readonly environment: string;
  /** The repository of the environment's snapshots. */
  readonly snapshots: string;
  readonly grace: Grace;
  readonly garbage: Garbage;
  readonly blobs: Blobs;
  readonly uploads: Uploads;
  readonly manifests: Manifests;
  readonly listing: Listing;
  /** All that `run` writes, or nothing. */
  readonly transaction: <T>(run: () => T) => T;

  constructor(storage: DurableObjectStorage, name: string | undefined, bucket: R2Bucket, grace: Grace) {
    const { sql } = storage;
    createTables(sql);
    this.environment = environmentIn(sql, name);
    this.snapshots = snapshotsOf(this.environment);
    this.grace = grace;
    this.garbage = new Garbage(sql, new BlobStore(bucket));
    this.blobs = new Blobs(sql, this.garbage, grace);
    this.uploads = new Uploads(sql, this.garbage, this.blobs, grace);
    this.manifests = new Manifests(sql, this.blobs);
    this.listing = new Listing(sql, this.manifests, this.snapshots);
    this.transaction = (run) => storage.transactionSync(run);
  }
}
