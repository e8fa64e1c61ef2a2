import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { failureAsRoot } from "../as-root.ts";
import { addressesOf, MAX_LABS, METADATA, planOf } from "./lab-plan.ts";
import type { CallName, Calls, Dial, Hit, Packets, Plan } from "./lab-plan.ts";

const run = promisify(execFile);
const LIMIT_MS = 20_000;
const INTERNET = `${import.meta.dirname}/lab-internet.ts`;

/** Why there can be no lab here; undefined where there can. */
export const noLab = failureAsRoot(
  "sh",
  "-c",
  'for program in ip nft openssl python3; do command -v $program || { echo "no $program" >&2; exit 1; }; done; unshare --net true',
);
if (noLab) console.log(`lab: skipped, ${noLab}`);

/**
 * An internet of the test's own: a network namespace behind a pair of interfaces, with servers that answer and tell of whoever reaches
 * them. This machine and all that it forwards for reaches them; several labs do not see each other, but have {@link METADATA} in common,
 * which by other interfaces than {@link device} leads to the oldest. It lives as long as its process, which ends with this one: nothing is left behind.
 */
export class Lab {
  readonly plan: Plan;
  /** This machine's interface on the way there. */
  readonly device: string;
  /** Signs the certificates of its servers. */
  ca = "";
  readonly #process: ChildProcess;
  #lastId = 0;

  private constructor(process: ChildProcess, index: number) {
    this.#process = process;
    this.plan = planOf(index);
    this.device = deviceOf(index);
  }

  static async start(): Promise<Lab> {
    const args = ["--net", "--", process.execPath, INTERNET];
    const child = spawn("unshare", args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    try {
      const signal = AbortSignal.timeout(LIMIT_MS);
      await Promise.race([
        once(child, "message", { signal }),
        once(child, "exit", { signal }).then(() => Promise.reject(new Error("lab: it ended at once"))),
      ]);
      const index = await connect(child.pid!);
      const lab = new Lab(child, index);
      for (const address of addressesOf(lab.plan).host) {
        await ip("address", "add", address, "dev", lab.device, ...(address.includes(":") ? ["nodad"] : []));
      }
      await ip("link", "set", lab.device, "up");
      const metric = ["metric", String(100 + index)];
      for (const address of METADATA) await ip("route", "add", address, "dev", lab.device, ...metric);
      lab.ca = (await lab.#call("begin", lab.plan)).ca;
      return lab;
    } catch (error) {
      child.kill("SIGKILL");
      throw error;
    }
  }

  /** Who reached what, since the beginning or `forget`. */
  hits(): Promise<Hit[]> {
    return this.#call("hits", null);
  }

  async forget(): Promise<void> {
    await this.#call("forget", null);
  }

  /** Gives a name its answers: see `Names`. */
  async name(name: string, ...answers: string[][]): Promise<void> {
    await this.#call("name", { name, answers });
  }

  /** What has come to each address, counted by the kernel. */
  packets(): Promise<Record<string, Packets>> {
    return this.#call("packets", null);
  }

  /** What a server says within two seconds to whoever comes from an address of the lab; or the code of the error that comes instead. */
  dial(dial: Dial): Promise<string> {
    return this.#call("dial", dial);
  }

  async close(): Promise<void> {
    const exit = once(this.#process, "exit");
    this.#process.kill("SIGKILL");
    await exit;
    // The kernel takes it away with the namespace, but not at once.
    await ip("link", "delete", this.device).catch(() => {});
  }

  #call<N extends CallName>(name: N, ask: Calls[N]["ask"]): Promise<Calls[N]["answer"]> {
    const id = ++this.#lastId;
    const child = this.#process;
    return new Promise((resolve, reject) => {
      const settle = (done: () => void) => {
        clearTimeout(limit);
        child.off("message", onMessage).off("exit", onExit);
        done();
      };
      const onMessage = (message: { id: number; answer: Calls[N]["answer"]; error?: string }) => {
        if (message.id !== id) return;
        settle(() => (message.error === undefined ? resolve(message.answer) : reject(new Error(message.error))));
      };
      const onExit = () => settle(() => reject(new Error(`lab: it ended during ${name}`)));
      const limit = setTimeout(() => settle(() => reject(new Error(`lab: no answer to ${name}`))), LIMIT_MS);
      child.on("message", onMessage).on("exit", onExit).setMaxListeners(0);
      child.send({ id, name, ask });
    });
  }
}

/** What the names of all labs' interfaces on this machine begin with. */
export const DEVICE_PREFIX = "sblab";
const deviceOf = (index: number) => `${DEVICE_PREFIX}${index}`;
const ip = (...args: string[]) => run("ip", args);

/** Lays the line between this machine and the process's namespace; the answer is the number that no other lab has. */
async function connect(pid: number): Promise<number> {
  for (let index = 0; index < MAX_LABS; index++) {
    try {
      await ip("link", "add", deviceOf(index), "type", "veth", "peer", "name", "lab", "netns", String(pid));
      return index;
    } catch (error) {
      if (!/exists/.test(String((error as { stderr?: string }).stderr))) throw error;
    }
  }
  throw new Error("lab: there are too many");
}
