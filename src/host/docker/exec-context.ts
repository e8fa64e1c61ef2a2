import type { Engine } from "./engine.ts";
import type { KernelView } from "./kernel-view.ts";

/** What an exec needs to know of its container. */
export interface ExecContext {
  engine: Engine;
  containerId: string;
  /** Resolves when the container has ended. */
  containerEnded: Promise<unknown>;
  /** Whether the container is being removed. */
  isStopping(): boolean;
  /** Undefined where the engine's pids are of no use here. */
  view: KernelView | undefined;
  /** Whether busybox is mounted. */
  hasTools: boolean;
}
