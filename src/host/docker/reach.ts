import type { Plan } from "./create-options.ts";
import type { EngineError } from "./engine.ts";
import type { Tools } from "./tools.ts";

const NOT_SEEN = /bind source path does not exist|statfs .*no such file|invalid mount/i;

/** What of this machine the engine's containers can use; learned from its refusals, and true for all of them from then on. */
export class Reach {
  /** The folder of the tools; undefined where there are none, or the engine is on another machine. */
  tools: string | undefined;
  /** Whether a launcher is the first process of a container. */
  #launcher: "untried" | "works" | "unusable";
  /** False once the engine has said that its own limit of open files is lower than ours. */
  limitFiles = true;

  constructor(tools: Tools | undefined, useLauncher: boolean) {
    this.tools = tools?.folder;
    this.#launcher = useLauncher && tools?.canLaunch ? "untried" : "unusable";
  }

  get hasLauncher(): boolean {
    return this.tools !== undefined && this.#launcher !== "unusable";
  }

  get isLauncherProven(): boolean {
    return this.#launcher === "works";
  }

  launcherWorks(): void {
    this.#launcher = "works";
  }

  giveUpLauncher(why: string): void {
    if (this.#launcher === "unusable") return;
    this.#launcher = "unusable";
    console.error(`sandbar host: processes are started by the engine's own exec, which is slower: ${why}`);
  }

  /**
   * Learns from the engine's refusal of a container that was made so; false when it teaches nothing, and a second try is of no
   * use. Another start may have learned the same meanwhile.
   */
  learn(error: EngineError, { limitFiles, tools, controlDir }: Pick<Plan, "limitFiles" | "tools" | "controlDir">) {
    if (limitFiles && /rlimit/i.test(error.message)) {
      this.limitFiles = false;
      return true;
    }
    if (!tools || !NOT_SEEN.test(error.message)) return false;
    if (controlDir !== undefined) this.giveUpLauncher("the engine does not see this machine's folders");
    // A control directory that is not seen may be one in memory, which not every engine shares.
    if (!controlDir || !error.message.includes(controlDir)) this.tools = undefined;
    return true;
  }
}
