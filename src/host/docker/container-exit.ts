import { setTimeout as sleep } from "node:timers/promises";
import type { ContainerExit } from "../../contract/host-protocol.ts";
import { KILLED_RETURNCODE, signalOfReturncode } from "../../contract/process.ts";
import { settlesWithin } from "../time-limit.ts";
import { type Engine, EngineError } from "./engine.ts";
import type { KernelView } from "./kernel-view.ts";

/** One wait call; a connection that died unnoticed costs at most this. */
const WAIT_MS = 300_000;
const ENGINE_RETRY_MS = 500;
const OOM_REPORT_MS = 100;
/** How long a container may take to end once its launcher has gone. */
const LAST_STEP_MS = 1_000;

type Exit = Omit<ContainerExit, "deadline">;

/** Finds out how a container ends: by its entrypoint, as its launcher tells, or as a whole, as the engine tells. */
export class ContainerExitWatch {
  readonly exited: Promise<Exit>;
  readonly #exit = Promise.withResolvers<Exit>();
  readonly #engine: Engine;
  readonly #id: string;
  readonly #view: KernelView | undefined;
  readonly #isLaunched: boolean;
  #wasOutOfMemory = false;
  #hasEnded = false;

  /** `isLaunched`: its first process is a launcher, which ends only by a signal. */
  constructor(engine: Engine, containerId: string, view: KernelView | undefined, isLaunched: boolean) {
    this.#engine = engine;
    this.#isLaunched = isLaunched;
    this.#id = containerId;
    this.#view = view;
    this.exited = this.#exit.promise;
    void this.#watch().then((exit) => this.#settle(exit));
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** The entrypoint has ended; undefined when that was with everything around it, or the sandbox killed all it could see. */
  tell(returncode = KILLED_RETURNCODE): void {
    if (returncode !== KILLED_RETURNCODE) return this.#settle({ returncode, oom: false });
    const kills = this.oomKills();
    const oom = kills === undefined ? this.#isFlaggedOutOfMemory() : Promise.resolve(kills > 0);
    void oom.then((oom) => this.#settle({ returncode, oom }));
  }

  /** The launcher has gone: what is left of its container, where it broke it itself, is of no use to anybody. */
  async force(): Promise<void> {
    if (await settlesWithin(this.exited, LAST_STEP_MS)) return;
    await this.#engine.kill(this.#id, "SIGKILL").catch(() => undefined);
  }

  /** How often the kernel has killed in the container for want of memory, its end as the engine tells of it included. */
  oomKills(): number | undefined {
    const kills = this.#view?.oomKills();
    return this.#wasOutOfMemory ? (kills ?? 0) + 1 : kills;
  }

  #settle(exit: Exit): void {
    this.#hasEnded = true;
    this.#exit.resolve(exit);
  }

  /** Follows the container to its end, over restarts of the engine; one that is gone was killed. */
  async #watch(): Promise<Exit> {
    for (;;) {
      try {
        const { StatusCode } = await this.#engine.wait(this.#id, WAIT_MS);
        this.#wasOutOfMemory = StatusCode === KILLED_RETURNCODE && (await this.#isFlaggedOutOfMemory());
        // An engine that was down when it ended has made its code up: 255.
        const isTrue = !this.#isLaunched || signalOfReturncode(StatusCode) !== undefined;
        return { returncode: isTrue ? StatusCode : KILLED_RETURNCODE, oom: this.#wasOutOfMemory };
      } catch (error) {
        if (isGone(error)) return { returncode: KILLED_RETURNCODE, oom: false };
      }
      const state = await this.#engine.inspect(this.#id).catch((error: unknown) => (isGone(error) ? "gone" : "away"));
      if (state === "gone") return { returncode: KILLED_RETURNCODE, oom: false };
      if (state === "away") await sleep(ENGINE_RETRY_MS);
    }
  }

  /** The engine's flag says that something inside met the limit; with 137 it was the entrypoint. It may come a moment late. */
  async #isFlaggedOutOfMemory(): Promise<boolean> {
    for (const pause of [0, OOM_REPORT_MS]) {
      if (pause > 0) await sleep(pause);
      const info = await this.#engine.inspect(this.#id).catch(() => undefined);
      if (!info || info.State.OOMKilled) return info?.State.OOMKilled ?? false;
      if (!info.HostConfig.Memory) return false;
    }
    return false;
  }
}

function isGone(error: unknown): boolean {
  return error instanceof EngineError && error.status === 404;
}
