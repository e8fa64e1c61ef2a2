import { CHANNEL, channelMessage, CLOSE, statusOfEnd } from "../contract/attach.ts";
import { isLive } from "../contract/sandbox.ts";
import type { Bridge } from "./bridge.ts";
import { describeEnd } from "./describe.ts";
import { refuse, type ExecSockets } from "./exec-sockets.ts";
import { endedError, type Lifecycle } from "./lifecycle.ts";
import type { Operations } from "./operations.ts";
import { hasEnded } from "./process-record.ts";
import type { Processes } from "./processes.ts";
import { close, sendTo, type ClientState, type Sockets } from "./sockets.ts";
import type { Timers } from "./timers.ts";

/** How long the host has, once its container is gone, to tell the clients itself how their processes ended. */
const LAST_WORD_MS = 2000;
/** The same where the container is not gone so soon. */
const REMOVAL_MS = 10_000;

/** What happens to the object's sockets: their messages, their end, and the end of the sandbox under them. */
export class SocketEvents {
  readonly #sockets: Sockets;
  readonly #bridge: Bridge;
  readonly #execs: ExecSockets;
  readonly #processes: Processes;
  readonly #operations: Operations;
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #now: () => number;

  constructor(
    sockets: Sockets,
    bridge: Bridge,
    execs: ExecSockets,
    processes: Processes,
    operations: Operations,
    lifecycle: Lifecycle,
    timers: Timers,
    now: () => number,
  ) {
    this.#sockets = sockets;
    this.#bridge = bridge;
    this.#execs = execs;
    this.#processes = processes;
    this.#operations = operations;
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#now = now;
  }

  async message(socket: WebSocket, message: ArrayBuffer | string): Promise<void> {
    const state = this.#sockets.stateOf(socket);
    if (state.role === "host") return this.#bridge.fromHost(socket, message);
    if (state.phase === "attached") return this.#bridge.fromClient(socket, message);
    if (state.phase === "starting") return this.#execs.early(socket, message);
    return this.#execs.first(socket, state, message, (operation) => this.#operations.run(undefined, operation));
  }

  gone(socket: WebSocket): void {
    this.#bridge.gone(socket);
    // Idle time begins with the last client's going.
    if (this.#sockets.stateOf(socket).role === "client") this.#lifecycle.touch();
  }

  /** The sandbox has ended, and its container is being removed. */
  async sandboxEnded(removed: Promise<void>): Promise<void> {
    if (!this.#sockets.hasClients) return;
    const isLost = this.#lifecycle.record?.end?.finishReason === "host_lost";
    this.#timers.set("sockets", this.#now() + (isLost ? LAST_WORD_MS : REMOVAL_MS));
    await removed;
    if (!isLost) this.#timers.set("sockets", this.#now() + LAST_WORD_MS);
  }

  /** The timer: sockets that wait for what will not come are closed. */
  async sweep(): Promise<void> {
    const record = this.#lifecycle.record;
    if (record && !isLive(record.state)) {
      for (const { socket, state } of this.#sockets.clients()) await this.#finish(socket, state);
      return this.#timers.clear("sockets");
    }
    const next = this.#execs.closeSilent();
    if (next === undefined) this.#timers.clear("sockets");
    else this.#timers.set("sockets", next);
  }

  /** Tells a client what its host did not: that its process went down with the sandbox. */
  async #finish(socket: WebSocket, state: ClientState): Promise<void> {
    if (state.phase === "starting") return;
    if (state.phase === "request") return refuse(socket, endedError(this.#lifecycle.record!));
    // A record that is gone must not keep the socket open.
    const process = await this.#processes.get(state.processId).catch(() => undefined);
    if (process && hasEnded(process)) {
      sendTo(socket, channelMessage(CHANNEL.status, JSON.stringify(statusOfEnd(describeEnd(process)))));
    }
    close(socket, CLOSE.done, "the sandbox has ended");
    this.#bridge.gone(socket);
  }
}
