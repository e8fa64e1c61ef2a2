import { HOST_ALIVE_MS } from "../contract/host.ts";
import type { HostReport } from "../contract/host-report.ts";
import type { FleetHost } from "./policy/model.ts";
import type { HostStanding } from "./rpc.ts";

/** MiB. With less on its disk a host starts nothing more. */
const MIN_DISK_FREE = 1024;

/** What is known of a host over the sleep of the object. */
export interface HostDoc extends HostStanding {
  hostId: string;
  url: string;
  info: HostReport["info"];
  /** The snapshots that are there, and the other images. */
  images: string[];
  references: string[];
  /** Devices that were promised to nobody, and are in use all the same. */
  occupied?: string[];
  /** Keys before this one were revoked. */
  oldestKeyVersion?: number;
}

/** Whether the key that it reported with last is still its own. */
export const isTrusted = ({ keyVersion, oldestKeyVersion = 1 }: HostDoc): boolean => keyVersion >= oldestKeyVersion;

/** Whether it takes anything new. */
export function isOpen(doc: HostDoc, seenAt: number, diskFree: number | undefined, now: number): boolean {
  if (doc.draining || !isTrusted(doc)) return false;
  return seenAt > now - HOST_ALIVE_MS && (diskFree ?? MIN_DISK_FREE) >= MIN_DISK_FREE;
}

/** As the policy sees it. */
export function fleetHostOf({ hostId, info, images, references }: HostDoc, open: boolean): FleetHost {
  return { hostId, info, isOpen: open, images: new Set([...images, ...references]) };
}
