import type { Backend } from "../backends/backend.ts";
import { newId } from "../contract/ids.ts";
import type { Lifecycle } from "./lifecycle.ts";
import type { Timers } from "./timers.ts";

/** The timer that takes probing up again when this object was lost in the middle of it. */
const RESUME_MS = 5000;
const EXEC_PROBE_TIMEOUT_MS = 10_000;

/** Makes the sandbox `ready` when its readiness probe succeeds, or at once when it has none. */
export class Probe {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #open: () => Backend;
  readonly #now: () => number;
  #isRunning = false;

  constructor(lifecycle: Lifecycle, timers: Timers, open: () => Backend, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#open = open;
    this.#now = now;
  }

  /** Probes until it succeeds or the sandbox ends. A probe that never succeeds never kills. */
  async run(): Promise<void> {
    const probe = this.#lifecycle.record?.create.readiness_probe;
    if (!probe) {
      this.#lifecycle.apply({ kind: "ready" });
      return;
    }
    this.#timers.set("probe", this.#now() + RESUME_MS);
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      while (this.#lifecycle.record?.state === "started") {
        if (await this.#succeeds()) {
          this.#lifecycle.apply({ kind: "ready" });
          break;
        }
        await new Promise((resolve) => setTimeout(resolve, probe.interval_ms));
      }
      this.#timers.clear("probe");
    } finally {
      this.#isRunning = false;
    }
  }

  async #succeeds(): Promise<boolean> {
    const { readiness_probe: probe, workdir } = this.#lifecycle.record!.create;
    if (!probe) return false;
    try {
      if ("tcp" in probe) return await this.#open().probePort(probe.tcp.port);
      const process = await this.#open().exec(
        {
          process_id: newId("process"),
          command: probe.exec.command,
          env: {},
          ...(workdir !== undefined && { workdir }),
          stdout: "ignore",
          stderr: "ignore",
          timeout_ms: EXEC_PROBE_TIMEOUT_MS,
          is_probe: true,
        },
        EXEC_PROBE_TIMEOUT_MS,
      );
      return process.returncode === 0;
    } catch {
      // Not reached is not ready; the loop asks again.
      return false;
    }
  }
}
