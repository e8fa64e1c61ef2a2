import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Launcher } from "../launcher/launcher.ts";
import { HOST_ENV, isRoot } from "../linux/programs.ts";
import { type Bind, StartFailure } from "../runtime.ts";
import { MAX_PROCESSES } from "./cgroup.ts";
import { HOST_IMAGE } from "./images.ts";
import { withoutInherited } from "./inherited-files.ts";
import { programTrees, UNSHARE } from "./machine.ts";

const BOOT = `${import.meta.dirname}/boot.sh`;
/** Counted within the user namespace; where there is none, the control group counts. */
const PROCESS_LIMIT = isRoot ? [] : ["prlimit", `--nproc=${MAX_PROCESSES}:${MAX_PROCESSES}`];
const BOOT_TIMEOUT_MS = 10_000;
/** What `boot.sh` says last, before the sandbox's own shell takes over. */
const ENTERED = "entered";
/** What it says of an image that has something else where something must be mounted. */
const NO_DIRECTORY = /^\/.* of the image is no directory$/m;
/** What Docker leaves to a container, without NET_RAW, which forges packets, and MKNOD and SYS_CHROOT, which undo the container's own walls. */
const CAPABILITIES = [
  "chown",
  "dac_override",
  "fsetid",
  "fowner",
  "setgid",
  "setuid",
  "setfcap",
  "setpcap",
  "net_bind_service",
  "kill",
  "audit_write",
];

export interface Boot {
  dir: string;
  layerDir: string;
  cgroups: string[];
  image: string;
  binds: readonly Bind[];
  /** Whether its network is held to rules, and has a gate. */
  isGated: boolean;
}

/** Runs `boot.sh`; resolves when the launcher inside takes commands. The container does not end with this daemon. */
export async function boot({ dir, layerDir, cgroups, image, binds, isGated }: Boot, launcher: Launcher): Promise<void> {
  const log = openSync(`${dir}/boot.log`, "w");
  const join = cgroups.map((_, index) => `echo 0 >"$${index + 1}/cgroup.procs"`);
  const script = `${[...join, `shift ${cgroups.length}`].join(" && ")} && exec "$@"`;
  const capabilities = ["-all", ...CAPABILITIES.map((name) => `+${name}`)].join(",");
  const volumes = binds.flatMap(({ source, path, readOnly }) => [readOnly ? "ro" : "rw", source, path]);
  const bootArgv = [dir, layerDir, programTrees().links.join(" "), capabilities, isGated ? "gated" : "", ...volumes];
  const argv = ["-c", script, "sh", ...cgroups, ...UNSHARE, ...PROCESS_LIMIT, "/bin/sh", BOOT, ...bootArgv];
  const child = spawn("/bin/sh", argv, { detached: true, stdio: withoutInherited(log), env: HOST_ENV, cwd: "/" });
  closeSync(log);
  child.unref();
  const failed = Promise.withResolvers<never>();
  const fail = async (how: string) => {
    const log = (await readFile(`${dir}/boot.log`, "utf8").catch(() => "")).trim();
    const [inTheWay] = NO_DIRECTORY.exec(log) ?? [];
    if (inTheWay !== undefined) failed.reject(new StartFailure(`The container cannot be built: ${inTheWay}.`));
    else if (log.endsWith(ENTERED) && image !== HOST_IMAGE)
      failed.reject(new StartFailure(`The /bin/sh of the image ${image} does not run.`));
    else failed.reject(new Error(`The container could not be built: ${log.slice(0, 2000)} (${how})`));
  };
  const timer = setTimeout(() => void fail("it takes too long"), BOOT_TIMEOUT_MS);
  const onExit = () => void fail("its first process has ended");
  child.once("error", failed.reject);
  child.once("exit", onExit);
  try {
    await Promise.race([launcher.ready, failed.promise]);
  } catch (error) {
    launcher.close();
    killGroup(child.pid);
    throw error;
  } finally {
    clearTimeout(timer);
    child.off("exit", onExit);
  }
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // Already gone.
  }
}
