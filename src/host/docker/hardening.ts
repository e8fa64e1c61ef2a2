import { readFileSync } from "node:fs";
import type { StartSpec } from "../../contract/host-protocol.ts";
import type { HostConfig } from "./engine.ts";

/** Docker's own default set without NET_RAW (forged packets on the bridge) and MKNOD (device files). */
const CAPABILITIES = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETUID",
  "SETPCAP",
  "NET_BIND_SERVICE",
  "SYS_CHROOT",
  "AUDIT_WRITE",
  "SETFCAP",
];
const MAX_PROCESSES = 4096;
/** Below what makes programs crawl that walk all their possible files, as they do under an engine's "unlimited". */
const MAX_OPEN_FILES = 65_536;
/** This daemon's own limit: an engine beside it can seldom give a container more. */
const OWN_OPEN_FILES = Number(/^Max open files +\d+ +(\d+)/m.exec(readOwnLimits())?.[1] ?? MAX_OPEN_FILES);
const OPEN_FILES = Math.min(MAX_OPEN_FILES, OWN_OPEN_FILES);
const BYTES_PER_MIB = 1_048_576;

function readOwnLimits(): string {
  try {
    return readFileSync("/proc/self/limits", "utf8");
  } catch {
    return "";
  }
}

/** Those that run containers on this machine's own kernel. Others have one between, and their processes here are not the sandbox's. */
const SHARING_RUNTIMES = /^(io\.containerd\.)?(runc|crun|youki|nvidia)(\.v\d+)?$/;

/** Whether this machine's kernel shows the container's files as the container sees them. */
export function sharesKernel({ Runtime }: Pick<HostConfig, "Runtime">): boolean {
  return !Runtime || SHARING_RUNTIMES.test(Runtime);
}

/**
 * What keeps a sandbox in its place: the same for every container, with the limits that its spec asks for. `limitFiles` is
 * false under an engine whose own limit of open files is lower, which it cannot raise for a container.
 */
export function hardenedHostConfig(
  spec: Pick<StartSpec, "cpu" | "memory">,
  options: { limitFiles: boolean },
): HostConfig {
  const memory = spec.memory === undefined ? undefined : spec.memory * BYTES_PER_MIB;
  const ociRuntime = process.env["SANDBAR_OCI_RUNTIME"];
  return {
    Privileged: false,
    SecurityOpt: ["no-new-privileges"],
    CapDrop: ["ALL"],
    CapAdd: CAPABILITIES,
    PidsLimit: MAX_PROCESSES,
    ...(options.limitFiles ? { Ulimits: [{ Name: "nofile", Soft: OPEN_FILES, Hard: OPEN_FILES }] } : {}),
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    // Nobody reads the engine's log; without a limit a chatty entrypoint fills the host's disk.
    LogConfig: { Type: "json-file", Config: { "max-size": "1m" } },
    ...(ociRuntime ? { Runtime: ociRuntime } : {}),
    ...(spec.cpu === undefined ? {} : { NanoCpus: Math.round(spec.cpu * 1e9) }),
    // Swap equal to memory means none: the limit is the limit.
    ...(memory === undefined ? {} : { Memory: memory, MemorySwap: memory }),
  };
}
