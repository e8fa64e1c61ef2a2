import { existsSync } from "node:fs";
import { chmod, cp, mkdir, rm, symlink, writeFile, rename } from "node:fs/promises";
import { RESOLVER } from "../network/rules.ts";
import { isRoot, run } from "../linux/programs.ts";
import { programTrees } from "./machine.ts";

/** The harmless part of /etc: nothing that names users, keys or services of this machine. */
const ETC = [
  "nsswitch.conf",
  "ld.so.conf",
  "ld.so.conf.d",
  "ld.so.cache",
  "alternatives",
  "ssl/certs",
  "ssl/openssl.cnf",
  "ca-certificates",
  "ca-certificates.conf",
  "pki/tls/certs",
  "pki/ca-trust/extracted",
  "services",
  "protocols",
  "mime.types",
  "localtime",
  "debian_version",
  "os-release",
  "terminfo",
  "bash.bashrc",
  "profile",
  "inputrc",
];
const DIRECTORIES = [
  "dev/pts",
  "dev/shm",
  "root/proc",
  "root/sys",
  "root/dev",
  "root/.sandbar",
  "root/root",
  "root/home",
  "root/opt",
  "root/srv",
  "root/mnt",
  "root/media",
  "root/run/lock",
  "root/tmp",
  "root/var/tmp",
  "root/var/cache",
  "root/var/lib",
  "root/var/log",
  "root/var/spool",
  "root/etc",
];
const DEVICES = ["null", "zero", "full", "random", "urandom", "tty"];
const READ_ONLY_PROC = ["sys", "sysrq-trigger", "irq", "bus", "fs"];
const MASKED_PROC = ["kcore", "keys", "timer_list", "sched_debug", "latency_stats", "timer_stats", "kmsg", "kallsyms"];
const MASKED_PROC_DIRECTORIES = ["acpi", "scsi"];

/** Makes `dataDir/skeleton`: what lies below every sandbox besides this machine's programs. */
export async function makeSkeleton(dataDir: string): Promise<void> {
  const final = `${dataDir}/skeleton`;
  if (existsSync(final)) return nameResolver(final);
  const dir = `${final}.${process.pid}`;
  await rm(dir, { recursive: true, force: true });
  const { trees, links } = programTrees();
  for (const name of [...DIRECTORIES, ...trees.map((tree) => `root/${tree}`)])
    await mkdir(`${dir}/${name}`, { recursive: true });
  for (const target of links) await symlink(target, `${dir}/root/${target.split("/").at(-1)}`);
  for (const [path, mode] of [
    ["root/root", 0o700],
    ["root/tmp", 0o1777],
    ["root/var/tmp", 0o1777],
    ["root/run/lock", 0o1777],
  ] as const) {
    await chmod(`${dir}/${path}`, mode);
  }
  await symlink("../run", `${dir}/root/var/run`);
  for (const device of DEVICES) await writeFile(`${dir}/dev/${device}`, "");
  for (const [name, target] of Object.entries({ fd: "", stdin: "/0", stdout: "/1", stderr: "/2" })) {
    await symlink(`/proc/self/fd${target}`, `${dir}/dev/${name}`);
  }
  await symlink("pts/ptmx", `${dir}/dev/ptmx`);
  if (!isRoot) for (const tree of trees) await ownDirectories(tree, `${dir}/${tree}`);
  const etc = `${dir}/root/etc`;
  for (const name of ETC) {
    // A link stays one; what this user may not read the sandbox does not need.
    await cp(`/etc/${name}`, `${etc}/${name}`, { recursive: true, verbatimSymlinks: true }).catch(() => {});
  }
  const shell = existsSync("/bin/bash") ? "/bin/bash" : "/bin/sh";
  await writeFile(
    `${etc}/passwd`,
    `root:x:0:0:root:/root:${shell}\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n`,
  );
  await writeFile(`${etc}/group`, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
  await writeFile(`${etc}/hostname`, "sandbar\n");
  await writeFile(`${etc}/hosts`, "127.0.0.1 localhost sandbar\n::1 localhost ip6-localhost\n");
  await nameResolver(dir);
  await rename(dir, final).catch(async (error: Error) => {
    await rm(dir, { recursive: true, force: true });
    if (!existsSync(final)) throw error;
  });
}

/** As in a container of Docker's: the gate answers there, and nobody where there is none. */
async function nameResolver(skeleton: string): Promise<void> {
  await writeFile(`${skeleton}/root/etc/resolv.conf`, `nameserver ${RESOLVER}\noptions ndots:0\n`);
}

/**
 * Directories of a user's own over those of the machine: an overlay takes their owner from the uppermost, so the
 * sandbox's root, who is that user, may add, replace and delete in them as a root is used to.
 */
async function ownDirectories(tree: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  const script = 'cd "$0" && find . -xdev -type d -print0 2>/dev/null | (cd "$1" && xargs -0 mkdir -p)';
  await run(["sh", "-c", script, `/${tree}`, target]);
}

/** The trees of a sandbox that are overlays of their own: `root` and the machine's program directories. */
export function overlayTrees(): string[] {
  return ["root", ...programTrees().trees];
}

/** What `boot.sh` mounts, in three steps. `layers` are directories with one folder a tree, newest first, relative to its cwd. */
export function fstabs(
  dataDir: string,
  dir: string,
  controlDir: string,
  layers: string[],
): Record<"stage" | "box" | "dev", string> {
  const stage = `${dir}/stage`;
  const box = `${stage}/a/box`;
  const { trees } = programTrees();
  const overlay = (tree: string) => {
    const bases = [
      ...(!isRoot || tree === "root" ? [`${dataDir}/skeleton/${tree}`] : []),
      ...(tree === "root" ? [] : [`/${tree}`]),
    ];
    const lower = [...layers.map((layer) => `${layer}/${tree}`), ...bases].join(":");
    // A renamed directory of a lower layer is EXDEV, as it is on Docker: no layer can hold a redirect.
    const kind = isRoot ? "index=off,metacopy=off,redirect_dir=follow" : "userxattr";
    const options = `lowerdir=${lower},upperdir=${dir}/upper/${tree},workdir=${dir}/work/${tree},${kind},nodev`;
    return `overlay ${tree === "root" ? box : `${box}/${tree}`} overlay ${options}`;
  };
  const quiet = "nosuid,nodev,noexec";
  const bindReadOnly = (path: string) => `${path} ${path} none bind,ro,${quiet}`;
  const masked = MASKED_PROC.filter((name) => existsSync(`/proc/${name}`));
  const maskedDirectories = MASKED_PROC_DIRECTORIES.filter((name) => existsSync(`/proc/${name}`));
  const text = (lines: string[]) => lines.map((line) => `${line} 0 0\n`).join("");
  return {
    stage: text([
      `sandbar ${stage} tmpfs mode=0755,size=1m,nosuid,nodev`,
      ...trees.map((tree) => `/${tree} ${stage}/${tree} none rbind,ro,nosuid,nodev,X-mount.mkdir`),
    ]),
    box: text([
      `/dev/null ${stage}/dev/null none bind`,
      `${stage} ${stage}/a none rbind`,
      ...overlayTrees().map(overlay),
      `proc ${stage}/proc proc ${quiet}`,
      `proc ${box}/proc proc ${quiet}`,
      `sandbar ${box}/dev tmpfs mode=0755,size=1m,nosuid`,
      `${controlDir} ${box}/.sandbar none bind,ro,${quiet}`,
    ]),
    dev: text([
      ...DEVICES.map((name) => `/dev/${name} ${box}/dev/${name} none bind`),
      `devpts ${box}/dev/pts devpts newinstance,ptmxmode=0666,mode=0620,nosuid,noexec`,
      `shm ${box}/dev/shm tmpfs mode=1777,size=64m,${quiet}`,
      ...READ_ONLY_PROC.filter((name) => existsSync(`/proc/${name}`)).map((name) =>
        bindReadOnly(`${box}/proc/${name}`),
      ),
      ...masked.map((name) => `/dev/null ${box}/proc/${name} none bind`),
      ...maskedDirectories.map((name) => `tmpfs ${box}/proc/${name} tmpfs ro,size=0,${quiet}`),
    ]),
  };
}
