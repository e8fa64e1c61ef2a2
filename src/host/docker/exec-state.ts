import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { KILLED_RETURNCODE, type SignalName } from "../../contract/process.ts";
import { settlesWithin } from "../time-limit.ts";
import { EngineError, type ExecInspectInfo } from "./engine.ts";
import type { ExecContext } from "./exec-context.ts";
import { signalMarked } from "./group-signal.ts";

const FIRST_POLL_MS = 3;
const MAX_POLL_MS = 250;
/** How long an engine may take to tell the code of a process whose container has ended, or after it went away itself. */
const LATE_CODE_MS = 1_000;
const ENGINE_AWAY_MS = 30_000;
const START_REPORT_MS = 5_000;
/** How long the news that the container has ended may lag behind that of its processes. */
const LATE_NEWS_MS = 150;

/** What is known of a process that the engine started. The engine does not tell, so it is asked. */
export class ExecState {
  readonly #context: ExecContext;
  readonly #processId: string;
  readonly #user: string | undefined;
  readonly #execId: string;
  #pid = 0;
  #code: number | undefined;
  #containerEndedAt: number | undefined;

  constructor(context: ExecContext, process: { process_id: string; user?: string | undefined }, execId: string) {
    this.#context = context;
    this.#processId = process.process_id;
    this.#user = process.user;
    this.#execId = execId;
    void context.containerEnded.then(() => (this.#containerEndedAt = Date.now()));
  }

  /** As the engine told it. */
  get code(): number | undefined {
    return this.#code;
  }

  /** 0 before it runs, and for ever where it cannot run. */
  get pid(): number {
    return this.#pid;
  }

  get hasContainerEnded(): boolean {
    return this.#containerEndedAt !== undefined;
  }

  /** Its container ended so long ago that no code will come. */
  get isGone(): boolean {
    return this.#containerEndedAt !== undefined && Date.now() - this.#containerEndedAt > LATE_CODE_MS;
  }

  /** Asks the engine once and keeps what it says. */
  async look(): Promise<"ended or running" | "gone" | "unknown"> {
    try {
      const info: ExecInspectInfo = await this.#context.engine.inspectExec(this.#execId);
      this.#pid = info.Pid || this.#pid;
      // Before the start is through, the engine says "not running" without a code.
      if (!info.Running && typeof info.ExitCode === "number" && info.ExitCode >= 0) this.#code ??= info.ExitCode;
      return "ended or running";
    } catch (error) {
      return error instanceof EngineError && error.status === 404 ? "gone" : "unknown";
    }
  }

  /** Whether the process itself is gone, whoever still holds its output. */
  async hasEnded(): Promise<boolean> {
    if (this.#code !== undefined || this.hasContainerEnded) return true;
    const isVisible = this.#context.view !== undefined;
    if (this.#pid === 0 || !isVisible) await this.look();
    // Cheaper than a call, and known before an engine that is still busy with an earlier exec tells.
    return this.#code !== undefined || (isVisible && this.#pid > 0 && !existsSync(`/proc/${this.#pid}`));
  }

  /** Waits for the start, for a while: afterwards there is a pid, or the end is known. */
  async started(): Promise<void> {
    const deadline = Date.now() + START_REPORT_MS;
    while (this.#pid === 0 && this.#code === undefined && Date.now() < deadline) {
      await this.look();
      if (this.#pid === 0) await sleep(FIRST_POLL_MS);
    }
  }

  /** Waits for the end; undefined when it went down with its container. */
  async exitCode(): Promise<number | undefined> {
    let lastAnswerAt = Date.now();
    for (let pause = FIRST_POLL_MS; ; pause = Math.min(pause * 2, MAX_POLL_MS)) {
      const state = await this.look();
      if (this.#code !== undefined) return this.toldCode();
      if (state === "gone" || this.isGone) return undefined;
      if (state === "ended or running") lastAnswerAt = Date.now();
      if (Date.now() - lastAnswerAt > ENGINE_AWAY_MS) return undefined;
      await sleep(pause);
    }
  }

  /** The engine's word for a process that its container took along is the same as for one that was killed. */
  async toldCode(): Promise<number | undefined> {
    if (this.#code !== KILLED_RETURNCODE) return this.#code;
    const { containerEnded, isStopping } = this.#context;
    if (isStopping() || (await settlesWithin(containerEnded, LATE_NEWS_MS))) return undefined;
    return KILLED_RETURNCODE;
  }

  /** Signals the process group, from outside where this daemon can do that. */
  async kill(signal: SignalName): Promise<void> {
    const { engine, containerId, view, hasTools } = this.#context;
    if (this.#code !== undefined) return;
    if (!view?.canSignal) {
      const [mark, user] = [this.#processId, this.#user];
      return signalMarked(engine, { containerId, mark, signal, hasTools, user });
    }
    await this.started();
    if (this.#code === undefined && this.#pid > 0) view.signal(this.#pid, signal);
  }
}
