import { ApiError } from "../contract/errors.ts";
import { HOST_ALIVE_MS } from "../contract/host.ts";
import { MAX_REPORTED_IMAGES, type HostReport } from "../contract/host-report.ts";
import type { HostPlacement } from "../backends/backend.ts";
import { fleetHostOf, isOpen, isTrusted, type HostDoc } from "./host-doc.ts";
import { kindsOf } from "./host-kinds.ts";
import type { FleetHost } from "./policy/model.ts";
import type { HostKind } from "./judge.ts";
import type { HostStanding } from "./rpc.ts";

/** That a host was there is written so often; what it says of itself, when that changes. */
const WRITE_EVERY_MS = 60_000;
const KINDS_KEPT_MS = 1000;
/** A host gives a report up after so long: one that comes later was judged by what was known later, too. */
const REPORT_MS = 10_000;

interface KnownHost {
  doc: HostDoc;
  text: string;
  seenAt: number;
  writtenAt: number;
  diskFree: number | undefined;
  fleetHost: FleetHost;
}

/** The hosts that have reported: what they are, and when they were last heard of. */
export class Inventory {
  readonly #sql: SqlStorage;
  readonly #hosts = new Map<string, KnownHost>();
  /** Those that have not fallen silent. Who was heard of the longest ago comes first. */
  readonly #heard = new Map<string, KnownHost>();
  readonly #removed = new Set<string>();
  /** When it was last said whether a host drains. */
  readonly #drainingSaidAt = new Map<string, number>();
  /** Made anew when a host has changed, and now and then. */
  #gpuTypes: Set<string> | undefined;
  #kinds: { list: HostKind[]; until: number } = { list: [], until: 0 };

  constructor(sql: SqlStorage, now: number) {
    this.#sql = sql;
    for (const row of sql.exec<{ host_id: string }>("SELECT host_id FROM removed_hosts"))
      this.#removed.add(row.host_id);
    const rows = sql.exec<{ doc: string; seen_at: number }>("SELECT doc, seen_at FROM hosts ORDER BY seen_at");
    for (const { doc: text, seen_at: writtenAt } of rows) {
      const doc = JSON.parse(text) as HostDoc;
      // It may have reported until just before this object was lost.
      const seenAt = Math.min(now, writtenAt + WRITE_EVERY_MS);
      const fleetHost = fleetHostOf(doc, isOpen(doc, seenAt, undefined, now));
      this.#know({ doc, text, seenAt, writtenAt, diskFree: undefined, fleetHost }, now);
    }
  }

  /** As the policy sees them. */
  *fleet(): Iterable<FleetHost> {
    for (const { fleetHost } of this.#hosts.values()) yield fleetHost;
  }

  /**
   * Takes what a host has reported; `occupied` are devices in use there that were promised to nobody. Answers it as the policy is to
   * see it, and whether it says anything new. Throws `forbidden` of one that was removed, and `unauthenticated` of a key that was
   * revoked: its report may have been on its way.
   */
  reported(
    report: HostReport,
    { keyVersion, ...standing }: HostStanding,
    occupied: readonly string[],
    now: number,
  ): { fleetHost: FleetHost; isNews: boolean } {
    const { info, url, disk_free: diskFree } = report;
    const hostId = info.host_id;
    if (this.#removed.has(hostId)) throw new ApiError("forbidden", { detail: "The host was removed." });
    const before = this.#hosts.get(hostId);
    const { oldestKeyVersion = 1 } = before?.doc ?? {};
    if (keyVersion < oldestKeyVersion) throw new ApiError("unauthenticated", { detail: "The host's key was revoked." });
    // What the catalog said as the report came may be what it was before that was changed.
    const isOld = before !== undefined && now < (this.#drainingSaidAt.get(hostId) ?? -Infinity) + REPORT_MS;
    const { draining } = isOld ? before.doc : standing;
    const images = report.images ?? before?.doc.images ?? [];
    const references = report.references ?? before?.doc.references ?? [];
    const doc: HostDoc = {
      hostId,
      url,
      info,
      draining,
      keyVersion,
      images,
      references,
      ...(occupied.length > 0 && { occupied: occupied.toSorted() }),
      ...(oldestKeyVersion > 1 && { oldestKeyVersion }),
    };
    const fleetHost = this.#put(doc, { seenAt: now, diskFree: diskFree ?? before?.diskFree }, now);
    return { fleetHost, isNews: this.#hosts.get(hostId)!.text !== before?.text };
  }

  /** That the host has this image, as whoever had it made there knows. Undefined where that is no news. */
  hasImage(hostId: string, image: string, now: number): FleetHost | undefined {
    const known = this.#hosts.get(hostId);
    if (!known || known.fleetHost.images.has(image) || known.doc.images.length >= MAX_REPORTED_IMAGES) return undefined;
    return this.#put({ ...known.doc, images: [...known.doc.images, image] }, known, now);
  }

  /** Undefined where it is not known. */
  setDraining(hostId: string, draining: boolean, now: number): FleetHost | undefined {
    const known = this.#hosts.get(hostId);
    if (!known) return undefined;
    this.#drainingSaidAt.set(hostId, now);
    return this.#put({ ...known.doc, draining }, known, now);
  }

  /** It counts as not connected until it reports with a key of this version. Undefined where it is not known. */
  distrust(hostId: string, oldestKeyVersion: number, now: number): FleetHost | undefined {
    const known = this.#hosts.get(hostId);
    return known && this.#put({ ...known.doc, oldestKeyVersion }, known, now);
  }

  /** Those that have stopped reporting since they were last asked for. */
  fallenSilent(now: number): FleetHost[] {
    const silent: FleetHost[] = [];
    for (const [hostId, known] of this.#heard) {
      if (known.seenAt > now - HOST_ALIVE_MS) break;
      this.#heard.delete(hostId);
      if (!known.fleetHost.isOpen) continue;
      known.fleetHost = { ...known.fleetHost, isOpen: false };
      silent.push(known.fleetHost);
    }
    return silent;
  }

  /** All that do not report now. */
  silent(now: number): string[] {
    return [...this.#hosts.keys()].filter((hostId) => !this.isConnected(hostId, now));
  }

  forget(hostId: string): void {
    this.#hosts.delete(hostId);
    this.#heard.delete(hostId);
    this.#drainingSaidAt.delete(hostId);
    this.#forgetKinds();
    this.#removed.add(hostId);
    this.#sql.exec("INSERT OR IGNORE INTO removed_hosts VALUES (?)", hostId);
    this.#sql.exec("DELETE FROM hosts WHERE host_id = ?", hostId);
  }

  /** Where it is reached now; undefined when it is not connected. */
  locate(hostId: string, now: number): HostPlacement | undefined {
    return this.isConnected(hostId, now) ? this.address(hostId) : undefined;
  }

  /** Where it was reached last; undefined where that may have been another's word. */
  address(hostId: string): HostPlacement | undefined {
    const doc = this.#hosts.get(hostId)?.doc;
    if (!doc || !isTrusted(doc)) return undefined;
    return { kind: "host", hostId, url: doc.url, keyVersion: doc.keyVersion };
  }

  isConnected(hostId: string, now: number): boolean {
    const known = this.#hosts.get(hostId);
    return known !== undefined && isTrusted(known.doc) && known.seenAt > now - HOST_ALIVE_MS;
  }

  /** Whether it takes anything new. */
  isOpen(hostId: string): boolean {
    return this.#hosts.get(hostId)?.fleetHost.isOpen ?? false;
  }

  /** Whether any does. */
  get isAnyOpen(): boolean {
    for (const { fleetHost } of this.#heard.values()) if (fleetHost.isOpen) return true;
    return false;
  }

  isDraining(hostId: string): boolean {
    return this.#hosts.get(hostId)?.doc.draining ?? false;
  }

  /** Undefined where it is not known. */
  seenAt(hostId: string): number | undefined {
    return this.#hosts.get(hostId)?.seenAt;
  }

  occupied(hostId: string): readonly string[] {
    return this.#hosts.get(hostId)?.doc.occupied ?? [];
  }

  diskFree(hostId: string): number | undefined {
    return this.#hosts.get(hostId)?.diskFree;
  }

  kindOf(hostId: string): HostKind | undefined {
    return this.#hosts.get(hostId)?.doc.info;
  }

  /** The types of GPUs that hosts have, those that are silent too. */
  gpuTypes(): ReadonlySet<string> {
    this.#gpuTypes ??= new Set(
      [...this.#hosts.values()].flatMap(({ doc }) => (doc.info.capacity?.gpus ?? []).map(({ type }) => type)),
    );
    return this.#gpuTypes;
  }

  /** What kinds of hosts there are that are not lost, those with a container engine first. */
  kinds(lostAfterMs: number, now: number): HostKind[] {
    if (now < this.#kinds.until && now > this.#kinds.until - 2 * KINDS_KEPT_MS) return this.#kinds.list;
    const alive = [...this.#hosts.values()].filter(({ seenAt }) => seenAt > now - lostAfterMs);
    const list = kindsOf(alive.map(({ doc }) => doc.info));
    this.#kinds = { list, until: now + KINDS_KEPT_MS };
    return list;
  }

  #forgetKinds(): void {
    this.#kinds.until = 0;
    this.#gpuTypes = undefined;
  }

  #put(doc: HostDoc, { seenAt, diskFree }: Pick<KnownHost, "seenAt" | "diskFree">, now: number): FleetHost {
    const before = this.#hosts.get(doc.hostId);
    const text = JSON.stringify(doc);
    const open = isOpen(doc, seenAt, diskFree, now);
    const isSame = before?.text === text;
    const fleetHost = isSame && before.fleetHost.isOpen === open ? before.fleetHost : fleetHostOf(doc, open);
    let writtenAt = before?.writtenAt ?? 0;
    if (!isSame || seenAt >= writtenAt + WRITE_EVERY_MS) {
      writtenAt = seenAt;
      // What images are there, and what is in use, says nothing of what kind it is.
      if (!before || JSON.stringify(before.doc.info) !== JSON.stringify(doc.info)) this.#forgetKinds();
      this.#sql.exec(
        "INSERT INTO hosts VALUES (?, ?, ?) ON CONFLICT (host_id) DO UPDATE SET doc = excluded.doc, seen_at = excluded.seen_at",
        doc.hostId,
        text,
        seenAt,
      );
    }
    this.#know({ doc, text, seenAt, writtenAt, diskFree, fleetHost }, now);
    return fleetHost;
  }

  #know(known: KnownHost, now: number): void {
    const { hostId } = known.doc;
    // Behind all that were heard of earlier.
    if (this.#hosts.get(hostId)?.seenAt !== known.seenAt) this.#heard.delete(hostId);
    this.#hosts.set(hostId, known);
    if (this.#heard.has(hostId) || known.seenAt > now - HOST_ALIVE_MS) this.#heard.set(hostId, known);
  }
}
