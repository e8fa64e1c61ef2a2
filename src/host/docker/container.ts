import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { ContainerExit } from "../../contract/host-protocol.ts";
import type { Container, Spawned } from "../runtime.ts";
import { type ContainerInspectInfo, type Engine, EngineError } from "./engine.ts";
import { type ExecContext, type ExecRequest, spawnExec } from "./exec.ts";
import { canSignalDirectly } from "./group-signal.ts";
import { LABELS } from "./labels.ts";
import { removeContainer } from "./removal.ts";
import { snapshotContainer } from "./snapshot.ts";
import { TOOLS_MOUNT } from "./tools.ts";

const KILLED = 137;
/** One wait call; a connection that died unnoticed costs at most this. */
const WAIT_MS = 300_000;
const ENGINE_RETRY_MS = 500;
const OOM_REPORT_MS = 100;
const DIAL_TIMEOUT_MS = 5_000;

/** A started container of the engine, new or found again. */
export async function openContainer(engine: Engine, info: ContainerInspectInfo): Promise<Container> {
  const direct = await canSignalDirectly(info.Id, info.State.Pid);
  return new DockerContainer(engine, info, direct);
}

class DockerContainer implements Container {
  readonly sandboxId: string;
  readonly generation: number;
  readonly deadlineAt: number;
  readonly publishedPorts: Record<string, number>;
  readonly exited: Promise<Omit<ContainerExit, "deadline">>;
  readonly #engine: Engine;
  readonly #id: string;
  readonly #address: string | undefined;
  readonly #execContext: ExecContext;
  #stopped: Promise<void> | undefined;

  constructor(engine: Engine, info: ContainerInspectInfo, direct: boolean) {
    const labels = info.Config.Labels;
    this.sandboxId = labels[LABELS.sandbox] ?? "";
    this.generation = Number(labels[LABELS.generation]);
    this.deadlineAt = Number(labels[LABELS.deadline]);
    this.publishedPorts = publishedPorts(info);
    this.#engine = engine;
    this.#id = info.Id;
    this.#address = Object.values(info.NetworkSettings.Networks)[0]?.IPAddress || undefined;
    this.exited = this.#watch();
    const hasTools = info.Mounts.some((mount) => mount.Destination === TOOLS_MOUNT);
    this.#execContext = { engine, containerId: info.Id, containerEnded: this.exited, direct, hasTools };
  }

  stop(): Promise<void> {
    this.#stopped ??= removeContainer(this.#engine, this.#id).catch((error: unknown) => {
      // The next call tries again.
      this.#stopped = undefined;
      throw error;
    });
    return this.#stopped;
  }

  spawn(spec: ExecRequest): Promise<Spawned> {
    return spawnExec(this.#execContext, spec);
  }

  /** Goes to the container's own address, so the host must share the engine's network: Docker Desktop's machine does not. */
  dial(port: number): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      if (!this.#address) return reject(new Error("the container has ended, or has no address on this host"));
      const socket = connect({ host: this.#address, port, allowHalfOpen: true });
      const timer = setTimeout(() => {
        socket.destroy(Object.assign(new Error(`port ${port} does not answer`), { code: "ETIMEDOUT" }));
      }, DIAL_TIMEOUT_MS);
      socket.once("error", reject).once("close", () => clearTimeout(timer));
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.off("error", reject);
        resolve(socket);
      });
    });
  }

  snapshot(imageId: string): Promise<{ size: number }> {
    return snapshotContainer(this.#engine, this.#id, imageId);
  }

  /** Follows the container to its end, over restarts of the engine; one that is gone was killed. */
  async #watch(): Promise<Omit<ContainerExit, "deadline">> {
    for (;;) {
      try {
        const { StatusCode } = await this.#engine.wait(this.#id, WAIT_MS);
        return { returncode: StatusCode, oom: StatusCode === KILLED && (await this.#wasOutOfMemory()) };
      } catch (error) {
        if (isGone(error)) return { returncode: KILLED, oom: false };
      }
      const state = await this.#engine.inspect(this.#id).catch((error: unknown) => (isGone(error) ? "gone" : "away"));
      if (state === "gone") return { returncode: KILLED, oom: false };
      if (state === "away") await sleep(ENGINE_RETRY_MS);
    }
  }

  /** The engine's flag says that something inside met the limit; with 137 it was the entrypoint. It may come a moment late. */
  async #wasOutOfMemory(): Promise<boolean> {
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

/** An engine may publish on IPv4 and IPv6 under two numbers: IPv4's is the one handed out. */
function publishedPorts(info: ContainerInspectInfo): Record<string, number> {
  const published: Record<string, number> = {};
  for (const [name, bindings] of Object.entries(info.NetworkSettings.Ports ?? {})) {
    const binding = bindings?.find(({ HostIp }) => !HostIp.includes(":")) ?? bindings?.[0];
    if (binding) published[name.replace(/\/tcp$/, "")] = Number(binding.HostPort);
  }
  return published;
}
