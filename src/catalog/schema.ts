import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from "drizzle-orm/sqlite-core";
import type { HostInfo } from "../contract/host-info.ts";
import type { ImageStatus } from "../contract/image.ts";
import type { ScopeName } from "../contract/key.ts";
import type { BackendName, Sandbox, SandboxState } from "../contract/sandbox.ts";

/** The tables of the catalog (D1). Times are milliseconds since 1970. */

export const apiKeys = sqliteTable(
  "api_keys",
  {
    keyId: text("key_id").primaryKey(),
    environment: text("environment").notNull(),
    name: text("name").notNull(),
    /** SHA-256 of the key, hexadecimal. The key itself is kept nowhere. */
    hash: text("hash").notNull().unique(),
    scopes: text("scopes", { mode: "json" }).$type<ScopeName[]>().notNull(),
    createdAt: integer("created_at").notNull(),
    revokedAt: integer("revoked_at"),
  },
  (table) => [index("api_keys_by_time").on(table.environment, table.createdAt, table.keyId)],
);

export const sandboxes = sqliteTable(
  "sandboxes",
  {
    sandboxId: text("sandbox_id").primaryKey(),
    environment: text("environment").notNull(),
    appId: text("app_id"),
    name: text("name"),
    state: text("state").$type<SandboxState>().notNull(),
    live: integer("live", { mode: "boolean" }).notNull(),
    backend: text("backend").$type<BackendName>().notNull(),
    hostId: text("host_id"),
    generation: integer("generation").notNull(),
    /** The version of the object's record that this row shows. */
    version: integer("version").notNull(),
    doc: text("doc", { mode: "json" }).$type<Sandbox>().notNull(),
    createdAt: integer("created_at").notNull(),
    finishedAt: integer("finished_at"),
  },
  (table) => [
    index("sandboxes_by_time").on(table.environment, table.createdAt, table.sandboxId),
    index("sandboxes_live_by_time").on(table.environment, table.live, table.createdAt, table.sandboxId),
    index("sandboxes_on_host").on(table.hostId, table.live),
  ],
);

export const sandboxTags = sqliteTable(
  "sandbox_tags",
  {
    sandboxId: text("sandbox_id").notNull(),
    key: text("key").notNull(),
    value: text("value").notNull(),
  },
  (table) => [primaryKey({ columns: [table.sandboxId, table.key] })],
);

export const sandboxNames = sqliteTable(
  "sandbox_names",
  {
    environment: text("environment").notNull(),
    appId: text("app_id").notNull().default(""),
    name: text("name").notNull(),
    sandboxId: text("sandbox_id").notNull(),
    claimedAt: integer("claimed_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.environment, table.appId, table.name] }),
    index("sandbox_names_by_sandbox").on(table.sandboxId),
  ],
);

export const images = sqliteTable(
  "images",
  {
    imageId: text("image_id").primaryKey(),
    environment: text("environment").notNull(),
    sandboxId: text("sandbox_id").notNull(),
    name: text("name"),
    status: text("status").$type<ImageStatus>().notNull(),
    /** Why it failed. */
    error: text("error"),
    /** The image that the sandbox was started from. */
    parent: text("parent"),
    backend: text("backend").$type<BackendName>().notNull(),
    /** What it starts on, of hosts; null on Cloudflare, and until it is made. */
    runtime: text("runtime").$type<HostInfo["runtime"]>(),
    /** The host that made it; null on Cloudflare, and until it is made. */
    hostId: text("host_id"),
    /** The platform's name of a snapshot of Cloudflare's. */
    snapshotId: text("snapshot_id"),
    /** Of its manifest in the registry; null where it is only where it was made. */
    digest: text("digest"),
    size: integer("size"),
    createdAt: integer("created_at").notNull(),
    /** Null for never. */
    expiresAt: integer("expires_at"),
  },
  (table) => [
    index("images_by_time").on(table.environment, table.createdAt, table.imageId),
    index("images_by_end").on(table.environment, table.expiresAt),
  ],
);

export const hosts = sqliteTable("hosts", {
  hostId: text("host_id").primaryKey(),
  name: text("name").notNull(),
  /** Where the control plane reaches the host; null until its first report, like `runtime` and `info`. */
  url: text("url"),
  runtime: text("runtime").$type<HostInfo["runtime"]>(),
  info: text("info", { mode: "json" }).$type<HostInfo>(),
  /** Takes no new sandboxes. */
  draining: integer("draining", { mode: "boolean" }).notNull().default(false),
  /** Of the key that the host is to have. */
  keyVersion: integer("key_version").notNull().default(1),
  /** Keys before this one are refused. */
  oldestKeyVersion: integer("oldest_key_version").notNull().default(1),
  /** Of the newest key by which the host has reported, and since when it does. */
  seenKeyVersion: integer("seen_key_version").notNull().default(1),
  seenKeyAt: integer("seen_key_at"),
  createdAt: integer("created_at").notNull(),
  lastSeenAt: integer("last_seen_at"),
  removedAt: integer("removed_at"),
});

export const secrets = sqliteTable(
  "secrets",
  {
    secretId: text("secret_id").primaryKey(),
    environment: text("environment").notNull(),
    name: text("name").notNull(),
    /** The names of its variables. */
    keys: text("keys", { mode: "json" }).$type<string[]>().notNull(),
    /** Its variables under a data key of its own, and that one under a key of the deployment's: see `src/secrets`. */
    sealed: text("sealed").notNull(),
    dataKey: text("data_key").notNull(),
    /** The fingerprint of the deployment's key. */
    wrappedBy: text("wrapped_by").notNull(),
    createdAt: integer("created_at").notNull(),
    updatedAt: integer("updated_at").notNull(),
  },
  (table) => [
    uniqueIndex("secrets_by_name").on(table.environment, table.name),
    index("secrets_by_time").on(table.environment, table.createdAt, table.secretId),
  ],
);

export const volumes = sqliteTable(
  "volumes",
  {
    volumeId: text("volume_id").primaryKey(),
    environment: text("environment").notNull(),
    name: text("name").notNull(),
    createdAt: integer("created_at").notNull(),
  },
  (table) => [
    uniqueIndex("volumes_by_name").on(table.environment, table.name),
    index("volumes_by_time").on(table.environment, table.createdAt, table.volumeId),
  ],
);

export const idempotencyKeys = sqliteTable(
  "idempotency_keys",
  {
    environment: text("environment").notNull(),
    /** Method and path. */
    operation: text("operation").notNull(),
    key: text("key").notNull(),
    requestHash: text("request_hash").notNull(),
    /** What the first request decided before it began, sealed: whoever repeats it makes the same again. */
    plan: text("plan").notNull(),
    /** How many requests have come with the key until the answer was there. */
    requests: integer("requests").notNull(),
    /** The answer, sealed; null until it is there. */
    answer: text("answer"),
    createdAt: integer("created_at").notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.environment, table.operation, table.key] }),
    index("idempotency_keys_by_time").on(table.createdAt),
  ],
);
