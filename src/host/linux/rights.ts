import { readFileSync } from "node:fs";

const CAP_DAC_OVERRIDE = 1n;
/** Users are numbered there as on this machine. */
const NO_USER_NAMESPACE = /^\s*0\s+0\s+4294967295\s*$/;

/** Whether a process may look at every file that it can name, so that what this machine's root sees of it is what it sees itself. */
export function seesEveryFile(pid: number): boolean {
  try {
    const rights = /^CapEff:\t([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    if (rights === undefined || ((BigInt(`0x${rights}`) >> CAP_DAC_OVERRIDE) & 1n) === 0n) return false;
    return process.getuid?.() === 0 && NO_USER_NAMESPACE.test(readFileSync(`/proc/${pid}/uid_map`, "utf8"));
  } catch {
    return false;
  }
}
