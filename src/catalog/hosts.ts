import { and, eq, gt, isNull, sql } from "drizzle-orm";
import { HOST_ALIVE_MS, type Host } from "../contract/host.ts";
import type { HostInfo, HostReport } from "../contract/host-protocol.ts";
import type { Page } from "../contract/list.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { hosts } from "./schema.ts";

/** A host that takes sandboxes now. */
export interface AliveHost {
  hostId: string;
  url: string;
  info: HostInfo;
}

const keyset = new Keyset(hosts.createdAt, hosts.hostId);

/** The hosts of the deployment. A removed one stays known, so that its token is refused. */
export class HostCatalog {
  readonly #db: Database;

  constructor(d1: D1Database) {
    this.#db = openDatabase(d1);
  }

  /** Safe to repeat. */
  async add(hostId: string, name: string, now: number): Promise<void> {
    await this.#db.insert(hosts).values({ hostId, name, createdAt: now }).onConflictDoNothing();
  }

  /** Records that the host is there, and how. False when it was removed. */
  async report(report: HostReport, now: number): Promise<boolean> {
    const { info, url } = report;
    const seen = { url, runtime: info.runtime, info, lastSeenAt: now };
    const written = await this.#db
      .insert(hosts)
      .values({ hostId: info.host_id, name: info.host_id, createdAt: now, ...seen })
      .onConflictDoUpdate({ target: hosts.hostId, set: seen, setWhere: isNull(hosts.removedAt) })
      .returning({ hostId: hosts.hostId });
    return written.length > 0;
  }

  /** The hosts that reported of late, the longest known first. */
  async alive(now: number): Promise<AliveHost[]> {
    const rows = await this.#db
      .select()
      .from(hosts)
      .where(and(isNull(hosts.removedAt), gt(hosts.lastSeenAt, now - HOST_ALIVE_MS)))
      .orderBy(hosts.createdAt, hosts.hostId);
    return rows.flatMap(({ hostId, url, info }) => (url !== null && info !== null ? [{ hostId, url, info }] : []));
  }

  /** Hosts that are not removed, newest first. */
  async list(now: number, page: PageRequest): Promise<Page<Host>> {
    const rows = await this.#db
      .select()
      .from(hosts)
      .where(keyset.after(page.cursor, isNull(hosts.removedAt)))
      .orderBy(...keyset.order)
      .limit(page.limit + 1);
    return keyset.page(
      rows,
      page.limit,
      (row) => ({ createdAt: row.createdAt, id: row.hostId }),
      (row) => describeHost(row, now),
    );
  }

  /** The host unless it is removed. */
  async find(hostId: string, now: number): Promise<Host | undefined> {
    const [row] = await this.#db
      .select()
      .from(hosts)
      .where(and(eq(hosts.hostId, hostId), isNull(hosts.removedAt)));
    return row && describeHost(row, now);
  }

  /** When the host was last heard of; undefined when it is removed, or was never there. */
  async lastSeenAt(hostId: string): Promise<number | undefined> {
    const [row] = await this.#db
      .select({ lastSeenAt: hosts.lastSeenAt })
      .from(hosts)
      .where(and(eq(hosts.hostId, hostId), isNull(hosts.removedAt)));
    return row?.lastSeenAt ?? undefined;
  }

  /** True when there is such a host, removed now or before. */
  async remove(hostId: string, now: number): Promise<boolean> {
    const removed = await this.#db
      .update(hosts)
      .set({ removedAt: sql`coalesce(${hosts.removedAt}, ${now})` })
      .where(eq(hosts.hostId, hostId))
      .returning({ hostId: hosts.hostId });
    return removed.length > 0;
  }
}

function describeHost(row: typeof hosts.$inferSelect, now: number): Host {
  const { info, lastSeenAt } = row;
  return {
    host_id: row.hostId,
    name: row.name,
    state: lastSeenAt === null ? "waiting" : lastSeenAt > now - HOST_ALIVE_MS ? "alive" : "lost",
    ...(row.url !== null && { url: row.url }),
    ...(info && {
      runtime: info.runtime,
      version: info.version,
      default_image: info.default_image,
      capabilities: info.capabilities,
    }),
    created_at: new Date(row.createdAt).toISOString(),
    ...(lastSeenAt !== null && { last_seen_at: new Date(lastSeenAt).toISOString() }),
  };
}
