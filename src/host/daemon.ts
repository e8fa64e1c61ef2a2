import type { AddressInfo } from "node:net";
import type { HostInfo } from "../contract/host-protocol.ts";
import { Attachments } from "./attachments.ts";
import { Containers } from "./containers.ts";
import { Deadlines } from "./deadlines.ts";
import { Ends } from "./ends.ts";
import { LogArchive } from "./log-archive.ts";
import { Pump } from "./logs/pump.ts";
import type { ProcessTableOptions } from "./process-table-options.ts";
import { Reporter } from "./report.ts";
import type { Runtime } from "./runtime.ts";
import { createHostServer } from "./server.ts";
import { Snapshots } from "./snapshots.ts";
import { UnaskedImages } from "./unasked-images.ts";

const CLOSE_GRACE_MS = 1_000;

export interface DaemonOptions extends ProcessTableOptions {
  runtime: Runtime;
  hostId: string;
  hostKey: string;
  version: string;
  /** Where logs, moved deadlines and ends are kept. */
  dataDir: string;
  listen: { host: string; port: number };
  /** Left out: nobody is told what runs here. */
  controlPlaneUrl?: string | undefined;
  /** Where the control plane reaches this host; by default where it listens. */
  advertiseUrl?: string | undefined;
}

export interface Daemon {
  readonly url: string;
  readonly port: number;
  readonly containers: Containers;
  /** Ends the daemon; the containers stay for the next one unless `stopContainers`. */
  close(options: { stopContainers: boolean }): Promise<void>;
}

/** Puts the parts of a host together and runs them. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const { runtime, hostId, hostKey, listen } = options;
  const info: HostInfo = {
    host_id: hostId,
    version: options.version,
    runtime: runtime.kind,
    default_image: runtime.defaultImage,
    capabilities: runtime.capabilities,
  };
  let reporter: Reporter | undefined;
  const pump = new Pump();
  const logs = new LogArchive({ ...options, logsDir: `${options.dataDir}/logs`, pump });
  const deadlines = new Deadlines(`${options.dataDir}/deadlines`);
  const ends = new Ends(`${options.dataDir}/ends`);
  const snapshots = new Snapshots(runtime, new UnaskedImages(`${options.dataDir}/unasked`));
  const containers = new Containers({ runtime, logs, deadlines, ends, snapshots, onExit: () => reporter?.soon() });
  await containers.recover();
  const attachments = new Attachments({ controlPlaneUrl: options.controlPlaneUrl, hostId, hostKey });

  const server = createHostServer({ info, runtime, containers, snapshots, attachments, hostKey });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const url = options.advertiseUrl ?? `http://${listen.host.includes(":") ? `[${listen.host}]` : listen.host}:${port}`;

  if (options.controlPlaneUrl !== undefined) {
    reporter = new Reporter({
      controlPlaneUrl: options.controlPlaneUrl,
      hostKey,
      advertiseUrl: url,
      info,
      containers,
      images: { list: () => snapshots.list(), remove: (imageId) => runtime.removeImage(imageId) },
    });
    reporter.start();
  }

  return {
    url,
    port,
    containers,
    async close({ stopContainers }) {
      reporter?.stop();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      if (stopContainers) await containers.stopAll();
      else containers.close();
      attachments.close();
      const grace = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS);
      // Upgraded connections are no longer the server's to close; nobody waits for them.
      const limit = new Promise<void>((resolve) => setTimeout(resolve, 2 * CLOSE_GRACE_MS).unref());
      await Promise.race([closed, limit]);
      clearTimeout(grace);
      await pump.end();
    },
  };
}
