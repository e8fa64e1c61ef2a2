import type { ContainerExit, StartSpec } from "../../contract/host-protocol.ts";
import { ApiError } from "../../contract/errors.ts";
import { isCutOff } from "../../contract/network.ts";
import {
  AgentConnection,
  unreachable,
  withTimeLimit,
  type AgentAddress,
  type AgentSocket,
} from "./agent/connection.ts";
import { list, listOf, stringsOf, variablesOf } from "./agent/frames.ts";
import { AGENT_PORT, AGENT_PROGRAM } from "./agent/program.ts";
import { instanceTypeFor } from "./instance-types.ts";
import type { CloudflareStore } from "./store.ts";

/** How long a container may take until its agent answers: a cold image is fetched first. */
const START_TIMEOUT_MS = 60_000;
/** One that is still being started may not answer at all. */
const GREETING_MS = 3000;
const DESTROY_MS = 30_000;
const SNAPSHOT_MS = 600_000;
/** How the platform says that it has no machine free. */
const NO_ROOM = /no container instance|capacity|too many/i;
const DIAL_MS = 25;
const MAX_DIAL_MS = 500;
/** The platform ends a container by itself when nobody has asked anything of it for this long after its deadline. */
const INACTIVITY_SLACK_MS = 60_000;

/** Where a container's filesystem comes from. */
export type Origin = { kind: "image"; image: string } | { kind: "snapshot"; snapshotId: string };

/** The container beside the object: owns `ctx.container`, its agent's token, and what is known of its end. */
export class NativeContainer {
  readonly #container: Container;
  readonly #store: CloudflareStore;

  constructor(container: Container, store: CloudflareStore) {
    this.#container = container;
    this.#store = store;
  }

  /** True while the container of the last start runs, and is to. */
  get isRunning(): boolean {
    const record = this.#store.container;
    return this.#container.running && record !== undefined && !record.exit && !record.isStopped;
  }

  get agent(): AgentAddress {
    const token = this.#store.container?.token;
    if (token === undefined) throw new ApiError("sandbox_ended");
    return { token, dial: () => this.#dial(AGENT_PORT) };
  }

  /**
   * Starts it and waits for its agent. `adopted` when the same generation runs already; a text says why it never will run.
   * Throws `sandbox_ended` when a stop came before.
   */
  async start(spec: StartSpec, origin: Origin): Promise<"launched" | "adopted" | { error: string }> {
    const before = this.#store.container;
    if (before?.isStopped && before.generation >= spec.generation) throw new ApiError("sandbox_ended");
    const isSame = before?.generation === spec.generation;
    if (isSame && before.exit) return "adopted";
    const isUnderWay = isSame && this.#container.running;
    if (!isUnderWay) {
      if (this.#container.running) await this.#destroy();
      this.#store.saveContainer({
        generation: spec.generation,
        token: newToken(),
        deadlineAt: Date.now() + spec.lifetime_ms,
      });
      this.#launch(spec, origin);
    }
    const error = await this.#untilReady(spec);
    if (this.#store.container?.isStopped) throw new ApiError("sandbox_ended");
    if (error !== undefined) return { error };
    return isUnderWay ? "adopted" : "launched";
  }

  #launch(spec: StartSpec, origin: Origin): void {
    const { token } = this.#store.container!;
    const common = {
      entrypoint: ["perl", "-e", AGENT_PROGRAM],
      enableInternet: !(spec.network && isCutOff(spec.network)),
      // The sandbox's own variables are not for the agent, which they could break: they are told to it.
      env: { SANDBAR_AGENT_TOKEN: token, SANDBAR_AGENT_PORT: String(AGENT_PORT) },
      labels: { sandbox: spec.sandbox_id, environment: spec.environment },
      instance: instanceTypeFor(spec),
    };
    this.#container.start(
      origin.kind === "image"
        ? { ...common, image: origin.image }
        : { ...common, containerSnapshot: { id: origin.snapshotId } },
    );
  }

  /** Waits until the agent answers. The answer is why it never will. Throws `backend_unavailable` when it takes too long. */
  async #untilReady(spec: StartSpec): Promise<string | undefined> {
    const giveUpAt = Date.now() + START_TIMEOUT_MS;
    for (let pauseMs = DIAL_MS; ; pauseMs = Math.min(MAX_DIAL_MS, pauseMs * 1.5)) {
      if (this.#store.container?.isStopped) return "It was stopped.";
      if (!this.#container.running) return this.#causeOfDeath();
      try {
        await this.#greet(spec);
        await this.stayUntilDeadline();
        return undefined;
      } catch (error) {
        if (error instanceof ApiError && error.code !== "backend_unavailable") return this.#giveUp(error.message);
        if (Date.now() >= giveUpAt) return this.#giveUp("The container's agent did not answer in time.");
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  }

  async #greet(spec: StartSpec): Promise<void> {
    const greeting = listOf([spec.workdir ?? "", ...variablesOf(spec.env)]);
    const connection = await AgentConnection.open(this.agent, "B", greeting, GREETING_MS);
    try {
      await connection.answer("b", ["exec_failed"], GREETING_MS);
    } finally {
      connection.close();
    }
  }

  async #giveUp(why: string): Promise<string> {
    try {
      await this.#destroy();
    } catch (error) {
      console.error("A container that did not start could not be removed.", error);
    }
    return why;
  }

  /**
   * The platform is to leave the container alone until its deadline, and not much longer. It counts from when anything was last
   * asked of it, so it is told anew from time to time. Throws `backend_unavailable`.
   */
  async stayUntilDeadline(): Promise<void> {
    const { deadlineAt = 0 } = this.#store.container ?? {};
    const leftMs = Math.max(1, deadlineAt - Date.now());
    try {
      await withTimeLimit(this.#container.setInactivityTimeout(leftMs + INACTIVITY_SLACK_MS));
    } catch (cause) {
      // It may have ended just now.
      throw unreachable(cause);
    }
  }

  /** Moves the deadline. */
  async setDeadline(deadlineAt: number): Promise<void> {
    this.#store.saveContainer({ ...this.#store.container!, deadlineAt });
    await this.stayUntilDeadline();
  }

  /**
   * Why the container does not run. Its monitor tells that of the last start, also when it has ended. Throws
   * `backend_unavailable` where the platform has no room just now.
   */
  async #causeOfDeath(): Promise<string> {
    const cause = await withTimeLimit(this.#container.monitor()).then(
      () => "it ended at once",
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
    const why = await this.#giveUp(`The container did not start: ${cause}`.slice(0, 1000));
    if (NO_ROOM.test(cause)) throw new ApiError("backend_unavailable", { detail: why, retryAfter: 1 });
    return why;
  }

  /** The entrypoint has ended: the container goes with it. */
  async exited(exit: ContainerExit): Promise<void> {
    const record = this.#store.container;
    if (!record || record.isStopped) return;
    this.#store.saveContainer({ ...record, exit });
    await this.#destroy();
  }

  /** Ends it; done when nothing is left. A start of this generation that comes later does nothing. */
  async stop(generation: number): Promise<void> {
    const record = this.#store.container;
    if (record && record.generation > generation) return;
    this.#store.saveContainer({ token: "", ...record, generation, isStopped: true });
    await this.#destroy();
  }

  /** Throws where the platform does not get it done: it is asked again. */
  #destroy(): Promise<void> {
    return withTimeLimit(this.#container.destroy(), DESTROY_MS);
  }

  /** A new connection to a port inside. */
  #dial(port: number): AgentSocket {
    return this.#container.getTcpPort(port).connect(`127.0.0.1:${port}`);
  }

  /** Whether the port accepts a connection. Seen from inside: from here every connection seems to open. */
  async probe(port: number): Promise<boolean> {
    const connection = await AgentConnection.open(this.agent, "T", list(String(port)));
    try {
      const { payload } = await connection.answer("t");
      return payload[0] === OPEN;
    } finally {
      connection.close();
    }
  }

  /** How many connections these ports have, as seen from inside. */
  async connections(ports: number[]): Promise<number> {
    const connection = await AgentConnection.open(this.agent, "C", listOf(ports.map(String)));
    try {
      const counts = stringsOf((await connection.answer("c")).payload).map(Number);
      return counts.reduce((sum, count) => sum + (count > 0 ? count : 0), 0);
    } finally {
      connection.close();
    }
  }

  /** What the port answers; a body that is packed stays so. */
  fetch(port: number, request: Request): Promise<Response> {
    return this.#container.getTcpPort(port).fetch(request, { encodeResponseBody: "manual" });
  }

  async snapshot(name: string): Promise<{ size: number; snapshotId: string }> {
    try {
      const { id, size } = await withTimeLimit(this.#container.snapshotContainer({ name }), SNAPSHOT_MS);
      return { size, snapshotId: id };
    } catch (cause) {
      const detail = "The platform could not make the snapshot.";
      throw new ApiError("backend_unavailable", { detail, retryAfter: 5, cause });
    }
  }
}

const TOKEN_BYTES = 32;
/** `1`, as the agent says that a port is open. */
const OPEN = 0x31;

function newToken(): string {
  return [...crypto.getRandomValues(new Uint8Array(TOKEN_BYTES))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}
