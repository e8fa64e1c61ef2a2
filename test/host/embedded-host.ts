import { mkdtempSync, rmSync } from "node:fs";
import { openEmbeddedRuntime } from "../../src/host/embedded/runtime.ts";
import { SignedHost } from "./signed-host.ts";

/** A daemon over real containers without an engine. */
export async function embeddedHost(
  options: Parameters<typeof SignedHost.start>[1] = {},
): Promise<{ host: SignedHost; close: () => Promise<void> }> {
  const dataDir = mkdtempSync("/tmp/sb-host-");
  const host = await SignedHost.start(await openEmbeddedRuntime({ dataDir }), { dataDir, ...options });
  const close = async () => {
    await host.daemon.close({ stopContainers: true });
    rmSync(dataDir, { recursive: true, force: true });
  };
  return { host, close };
}

export const MIB = 1_048_576;
