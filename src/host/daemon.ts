import type { AddressInfo } from "node:net";
import { Attachments } from "./attachments.ts";
import { Containers } from "./containers.ts";
import { Deadlines } from "./deadlines.ts";
import { Ends } from "./ends.ts";
import { HostKeys } from "./host-keys.ts";
import { GpuLedger } from "./gpu-ledger.ts";
import { hostInfo, type HostFacts } from "./host-info.ts";
import { Inventory, type Promised } from "./inventory/inventory.ts";
import { ReferenceCensus } from "./inventory/reference-census.ts";
import { LogArchive } from "./log-archive.ts";
import { Forbidden } from "./network/forbidden.ts";
import { Names } from "./network/names.ts";
import { Networks } from "./network/networks.ts";
import { TUNNEL_QUIET_MS } from "../process/activity.ts";
import { Pump } from "./logs/pump.ts";
import type { ProcessTableOptions } from "./process-table-options.ts";
import { Reporter } from "./report.ts";
import { RequestBodies } from "./request-bodies.ts";
import type { Runtime } from "./runtime.ts";
import { createHostServer } from "./server.ts";
import { Snapshots } from "./snapshots.ts";
import { UnaskedImages } from "./unasked-images.ts";
import { Volumes } from "./volumes/volumes.ts";
import { WarmShelf } from "./warm/shelf.ts";
import { HeldWarmSource } from "./warm/held-source.ts";
import { WarmStarts } from "./warm/starts.ts";

const CLOSE_GRACE_MS = 1_000;

export interface DaemonOptions extends ProcessTableOptions, HostFacts {
  runtime: Runtime;
  hostKey: string;
  /** Of the key; 1 if left out. */
  keyVersion?: number;
  promised?: Promised | undefined;
  /** Where logs, moved deadlines, ends, network policies and volumes are kept. */
  dataDir: string;
  listen: { host: string; port: number };
  /** Left out: nobody is told what runs here. */
  controlPlaneUrl?: string | undefined;
  /** What of volumes is kept for the next sandbox that mounts them, at most. */
  volumeCacheBytes?: number | undefined;
  /** Whom sandboxes' names are asked of; by default whom the machine asks. */
  nameServers?: readonly string[] | undefined;
  /** Where the control plane reaches this host; by default where it listens. */
  advertiseUrl?: string | undefined;
  /** How long a tunnel's connection on which nothing moves still counts as use of its sandbox. */
  tunnelQuietMs?: number | undefined;
}

export interface Daemon {
  readonly url: string;
  readonly port: number;
  readonly containers: Containers;
  /** The containers that are started ahead; undefined where there can be none. */
  readonly warm: WarmShelf | undefined;
  /** Settles with the first report: rejects when the control plane did not take it. */
  readonly reported: Promise<void>;
  /** Ends the daemon; the containers stay for the next one unless `stopContainers`. */
  close(options: { stopContainers: boolean }): Promise<void>;
}

/** Puts the parts of a host together and runs them. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { runtime, hostId, hostKey, keyVersion = 1, listen } = options;
  const keys = new HostKeys(options.dataDir, { hostId, hostKey, keyVersion });
  const inventory = await Inventory.take({ runtime, promised: options.promised });
  const info = hostInfo(options, runtime, inventory);
  let reporter: Reporter | undefined;
  const pump = new Pump();
  const logs = new LogArchive({ ...options, logsDir: `${options.dataDir}/logs`, pump });
  const deadlines = new Deadlines(`${options.dataDir}/deadlines`);
  const ends = new Ends(`${options.dataDir}/ends`);
  const snapshots = new Snapshots(runtime, new UnaskedImages(`${options.dataDir}/unasked`));
  const soon = () => reporter?.soon();
  const gpus = new GpuLedger({ present: () => inventory.capacity.gpus.map(({ uuid }) => uuid), onFree: soon });
  const shelf = runtime.warm && new WarmShelf(new HeldWarmSource(runtime.warm, gpus), soon);
  const starts = shelf ? new WarmStarts(runtime, shelf, gpus) : runtime;
  const { controlPlaneUrl, volumeCacheBytes: cacheBytes } = options;
  const volumes = new Volumes({ dir: `${options.dataDir}/volumes`, controlPlaneUrl, cacheBytes });
  const networks = new Networks({
    folder: `${options.dataDir}/networks`,
    egress: runtime.egress,
    canSetRules: runtime.capabilities.network_rules ?? false,
    names: new Names(options.nameServers),
    forbidden: Forbidden.ofThisMachine(),
  });
  const parts = { runtime: starts, logs, deadlines, ends, snapshots, gpus, volumes, networks };
  const containers = new Containers({ ...parts, onExit: soon });
  await containers.recover();
  const attachments = new Attachments({ controlPlaneUrl, hostId, keys });

  const { tunnelQuietMs = TUNNEL_QUIET_MS } = options;
  const bodies = new RequestBodies();
  const context = { info, runtime, containers, snapshots, volumes, networks, attachments, bodies, tunnelQuietMs };
  const server = createHostServer({ ...context, keys });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const url = options.advertiseUrl ?? `http://${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${port}`;

  if (controlPlaneUrl !== undefined) {
    reporter = new Reporter({
      controlPlaneUrl,
      keys,
      advertiseUrl: url,
      info,
      containers,
      warm: shelf,
      images: { list: () => snapshots.list(), remove: (imageId) => runtime.removeImage(imageId) },
      references: new ReferenceCensus(() => runtime.listReferences()),
      diskFree: () => inventory.diskFree(),
    });
    reporter.start();
  }

  return {
    url,
    port,
    containers,
    warm: shelf,
    reported: reporter?.first ?? Promise.resolve(),
    async close({ stopContainers }) {
      reporter?.stop();
      inventory.close();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      shelf?.close();
      if (stopContainers) await Promise.all([containers.stopAll(), shelf?.clear()]);
      else containers.close();
      volumes.close();
      attachments.close();
      bodies.close();
      const grace = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      // Upgraded connections are no longer the server's to close; nobody waits for them.
      const limit = new Promise<void>((resolve) => setTimeout(resolve, 2 * CLOSE_GRACE_MS).unref());
      await Promise.race([closed, limit]);
      clearTimeout(grace);
      await pump.end();
    },
  };
}
