import { and, eq, isNull, sql } from "drizzle-orm";
import type { Host, HostPatch } from "../contract/host.ts";
import type { HostReport } from "../contract/host-report.ts";
import type { Page } from "../contract/list.ts";
import { Keyset, type PageRequest } from "./cursor.ts";
import { openDatabase, type Database } from "./database.ts";
import { describeHost, type HostClock } from "./host-document.ts";
import { hosts } from "./schema.ts";

/** How a host stands with the control plane. Times are milliseconds since 1970. */
export interface HostStanding {
  draining: boolean;
  /** Of the key that the host is to have; keys before the oldest are refused; the newest by which it has reported. */
  keyVersion: number;
  oldestKeyVersion: number;
  seenKeyVersion: number;
  removedAt: number | null;
  /** Null until its first report. */
  lastSeenAt: number | null;
}

/**
 * How long a host's old key is taken after the first report under its new one: what it signed before (half a minute, and as much
 * for clocks that differ) has come by then.
 */
export const OLD_KEY_GRACE_MS = 90_000;

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

  /** Records that the host is there, and how, and that it has the key of this version. False when it was removed. */
  async report(report: HostReport, now: number, keyVersion = 1): Promise<boolean> {
    const { info, url } = report;
    const seen = { url, runtime: info.runtime, info, lastSeenAt: now };
    const { seenKeyVersion, seenKeyAt, oldestKeyVersion } = hosts;
    const isSettled = sql`${seenKeyVersion} = ${keyVersion} AND ${seenKeyAt} <= ${now - OLD_KEY_GRACE_MS}`;
    const key = {
      seenKeyVersion: sql`max(${seenKeyVersion}, ${keyVersion})`,
      seenKeyAt: sql`CASE WHEN ${keyVersion} > ${seenKeyVersion} THEN ${now} ELSE ${seenKeyAt} END`,
      oldestKeyVersion: sql`CASE WHEN ${isSettled} THEN max(${oldestKeyVersion}, ${keyVersion}) ELSE ${oldestKeyVersion} END`,
    };
    const written = await this.#db
      .insert(hosts)
      .values({ hostId: info.host_id, name: info.host_id, createdAt: now, ...seen })
      .onConflictDoUpdate({ target: hosts.hostId, set: { ...seen, ...key }, setWhere: isNull(hosts.removedAt) })
      .returning({ hostId: hosts.hostId });
    return written.length > 0;
  }

  /** Hosts that are not removed, newest first. */
  async list(clock: HostClock, page: PageRequest): Promise<Page<Host>> {
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
      (row) => describeHost(row, clock),
    );
  }

  /** The host unless it is removed. */
  async find(hostId: string, clock: HostClock): Promise<Host | undefined> {
    const [row] = await this.#db
      .select()
      .from(hosts)
      .where(and(eq(hosts.hostId, hostId), isNull(hosts.removedAt)));
    return row && describeHost(row, clock);
  }

  /** Also of a host that is removed; undefined of one that was never there. */
  async standing(hostId: string): Promise<HostStanding | undefined> {
    const { draining, keyVersion, oldestKeyVersion, seenKeyVersion, removedAt, lastSeenAt } = hosts;
    const [row] = await this.#db
      .select({ draining, keyVersion, oldestKeyVersion, seenKeyVersion, removedAt, lastSeenAt })
      .from(hosts)
      .where(eq(hosts.hostId, hostId));
    return row;
  }

  /** Changes what the patch names. The host as it is then; undefined when there is none, or it is removed. */
  async patch(hostId: string, { name, draining }: HostPatch, clock: HostClock): Promise<Host | undefined> {
    const changes = { ...(name !== undefined && { name }), ...(draining !== undefined && { draining }) };
    if (Object.keys(changes).length === 0) return this.find(hostId, clock);
    const [row] = await this.#db
      .update(hosts)
      .set(changes)
      .where(and(eq(hosts.hostId, hostId), isNull(hosts.removedAt)))
      .returning();
    return row && describeHost(row, clock);
  }

  /**
   * The host is to have the key of this version, or a later one that it is to have already. `revoke`: all keys before it are
   * refused at once. Safe to repeat. False when there is no such host, or it is removed.
   */
  async rotateKey(hostId: string, version: number, revoke: boolean): Promise<boolean> {
    const { keyVersion, oldestKeyVersion } = hosts;
    const changed = await this.#db
      .update(hosts)
      .set({
        keyVersion: sql`max(${keyVersion}, ${version})`,
        ...(revoke && { oldestKeyVersion: sql`max(${oldestKeyVersion}, ${version})` }),
      })
      .where(and(eq(hosts.hostId, hostId), isNull(hosts.removedAt)))
      .returning({ hostId: hosts.hostId });
    return changed.length > 0;
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
