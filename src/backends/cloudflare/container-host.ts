import type { AttachSpec } from "../../contract/attach.ts";
import type { ContainerStatus, StartSpec } from "../../contract/host-protocol.ts";
import { ApiError } from "../../contract/errors.ts";
import { MAIN_PROCESS_ID } from "../../contract/ids.ts";
import { OUTPUT_STREAMS } from "../../contract/process.ts";
import { Attachment, type SandboxShare } from "../../process/attachment.ts";
import { Activity, TUNNEL_QUIET_MS } from "../../process/activity.ts";
import type { StartOutcome } from "../backend.ts";
import type { AgentAddress } from "./agent/connection.ts";
import { inObjectSocket } from "./in-object-socket.ts";
import { NativeContainer, type Origin } from "./native-container.ts";
import { portUnreachable, untilPassed, whilePassing } from "./port-connection.ts";
import { keepWithinBudget } from "./output-budget.ts";
import type { CloudflareProcess } from "./process.ts";
import { CloudflareProcesses } from "./processes.ts";
import { CloudflareStore } from "./store.ts";

/** Input that waits for processes is in the object's memory. */
const MAX_WAITING_INPUT_BYTES = 16 * 1024 * 1024;

/** What the backend needs of the object that it runs in. */
export interface ObjectOfContainer {
  container: Container;
  storage: DurableObjectStorage;
  /** Keeps the object awake until the work is done. */
  keepAwake(work: Promise<unknown>): void;
  /** The container has ended by itself. */
  ended(): void;
  /** A socket to the client that an attachment is for. */
  socketOf(attachmentId: string): WebSocket;
}

/** The container beside its object, and all that goes on in it. One for the object's life, whatever is asked of it. */
export class ContainerHost {
  readonly container: NativeContainer;
  readonly #object: ObjectOfContainer;
  readonly #store: CloudflareStore;
  readonly #processes: CloudflareProcesses;
  /** What the clients attached here have under way together. */
  readonly #share: SandboxShare = {
    unacknowledged: 0,
    waitingInput: 0,
    maxWaitingInput: MAX_WAITING_INPUT_BYTES,
  };
  /** Ports to which sockets were opened. */
  readonly #socketPorts = new Set<number>();
  readonly #activity = new Activity();

  constructor(object: ObjectOfContainer) {
    this.#object = object;
    this.#store = new CloudflareStore(object.storage);
    this.container = new NativeContainer(object.container, this.#store);
    this.#processes = new CloudflareProcesses(
      {
        store: this.#store,
        agent: () => this.container.agent,
        isRunning: () => this.container.isRunning,
        endedBecause: () => {
          const record = this.#store.container;
          return record?.isStopped || record?.exit ? "sandbox_ended" : "host_lost";
        },
        stored: () => keepWithinBudget(this.#store, this.#processes),
      },
      (work) => object.keepAwake(work.finally(() => this.#looked())),
      (main) => this.#mainEnded(main),
    );
  }

  get processes(): CloudflareProcesses {
    return this.#processes;
  }

  /** The way to the agent of the container that runs. */
  get agent(): AgentAddress {
    this.#requireRunning();
    return this.container.agent;
  }

  async start(spec: StartSpec, snapshotId: string | undefined): Promise<StartOutcome> {
    const origin = this.#originOf(spec.image, snapshotId);
    if (!origin) return { kind: "failed", error: `This deployment has no image ${spec.image}.` };
    // What its entrypoint has begun is not begun again: that it has gone meanwhile, `inspect` tells.
    const hasBegun = this.#store.container?.generation === spec.generation && this.#processes.has(MAIN_PROCESS_ID);
    if (hasBegun && !this.container.isRunning && !this.#store.container?.isStopped)
      return { kind: "adopted", publishedPorts: {} };
    const outcome = await this.container.start(spec, origin);
    if (typeof outcome !== "string") return { kind: "failed", error: outcome.error };
    if (spec.entrypoint && !this.#processes.has(MAIN_PROCESS_ID)) {
      const failure = await this.#startMain(spec, spec.entrypoint);
      if (failure !== undefined) {
        await this.stop(spec.generation);
        return { kind: "failed", error: `The entrypoint cannot be run: ${failure}` };
      }
    }
    return { kind: outcome, publishedPorts: {} };
  }

  #originOf(image: string, snapshotId: string | undefined): Origin | undefined {
    if (image.startsWith("im-")) return snapshotId === undefined ? undefined : { kind: "snapshot", snapshotId };
    const { images } = this.#object.container;
    return Object.hasOwn(images, image) ? { kind: "image", image: images[image]! } : undefined;
  }

  async #startMain(spec: StartSpec, command: string[]): Promise<string | undefined> {
    const { failure } = await this.#processes.start({
      process_id: MAIN_PROCESS_ID,
      command,
      env: {},
      ...(spec.workdir !== undefined && { workdir: spec.workdir }),
      ...(spec.pty && { pty: spec.pty }),
    });
    return failure;
  }

  async inspect(): Promise<ContainerStatus> {
    const record = this.#store.container;
    if (!record || record.isStopped) return { kind: "gone" };
    const { generation, exit } = record;
    if (exit) return { kind: "exited", generation, exit };
    if (!this.container.isRunning) return { kind: "gone" };
    await this.#processes.resume();
    await this.container.stayUntilDeadline();
    const isUsed = this.#processes.areBusy || (await this.#hasOpenSockets());
    if (isUsed) this.#activity.touch();
    const { isBusy, idleMs } = this.#activity;
    return { kind: "running", generation, busy: isUsed || isBusy, idle_ms: idleMs };
  }

  /** Sockets through tunnels pass without this object: that they are still there is only seen inside. */
  async #hasOpenSockets(): Promise<boolean> {
    if (this.#socketPorts.size === 0) return false;
    const isOpen = (await this.container.connections([...this.#socketPorts])) > 0;
    if (!isOpen) this.#socketPorts.clear();
    return isOpen;
  }

  async stop(generation: number): Promise<void> {
    await this.container.stop(generation);
    this.#processes.end();
  }

  /** The processes, also of a container that has ended, for who reads what they did. */
  async known(): Promise<CloudflareProcesses> {
    if (!this.#store.container) throw new ApiError("sandbox_ended");
    await this.#processes.resume();
    return this.#processes;
  }

  async find(processId: string): Promise<CloudflareProcess> {
    return (await this.known()).find(processId);
  }

  /** Runs what counts as activity, in a container that runs. */
  async operate<T>(work: () => Promise<T>): Promise<T> {
    return this.hold(async (done) => {
      await this.#processes.resume();
      const result = await work();
      done();
      return result;
    });
  }

  /** Asks something of a container that runs, which is no activity. */
  async ask<T>(question: () => Promise<T>): Promise<T> {
    this.#requireRunning();
    await this.#processes.resume();
    try {
      return await question();
    } catch (error) {
      this.#requireRunning();
      throw error;
    }
  }

  /** What goes on as activity until `done` is called or the work fails; with `quietMs`, not while nothing has moved on it for so long. */
  async hold<T>(work: (done: () => void, moved: () => void) => Promise<T>, quietMs?: number): Promise<T> {
    this.#requireRunning();
    const { end, moved } = this.#activity.begin(quietMs);
    try {
      return await work(end, moved);
    } catch (error) {
      end();
      // What fails because the container has ended meanwhile is told so.
      this.#requireRunning();
      throw error;
    }
  }

  attach(process: CloudflareProcess, spec: AttachSpec): void {
    for (const stream of OUTPUT_STREAMS) process.logs[stream].requireKept(spec[`${stream}_offset`]);
    const socket = inObjectSocket(this.#object.socketOf(spec.attachment_id));
    new Attachment(socket, process, spec, this.#share).listen();
  }

  connect(port: number, request: Request): Promise<Response> {
    return this.hold(async (done, moved) => {
      const inner = new URL(request.url);
      inner.protocol = "http:";
      try {
        const response = await this.container.fetch(port, new Request(inner, whilePassing(request, moved)));
        if (response.webSocket) this.#socketPorts.add(port);
        return untilPassed(response, done, moved);
      } catch (cause) {
        throw portUnreachable(port, cause);
      }
    }, TUNNEL_QUIET_MS);
  }

  #requireRunning(): void {
    if (!this.container.isRunning) throw new ApiError("sandbox_ended");
  }

  async #mainEnded(main: CloudflareProcess): Promise<void> {
    const { exit } = main;
    const generation = this.#store.container?.generation;
    if (!exit || generation === undefined || !this.container.isRunning) return;
    if (exit.reason === "host_lost") {
      // How it ended nobody knows: the container goes as one that was lost.
      await this.stop(generation);
      return this.#object.ended();
    }
    await this.container.exited({ returncode: exit.returncode, oom: exit.reason === "oom", deadline: false });
    this.#processes.end();
  }

  /** Lets go of all that is kept of an ended container. Nothing more is asked of it here. */
  forget(): void {
    this.#processes.forgetAll();
    this.#store.drop();
  }

  /** A process has ended. If the container has gone with it, the object is told. */
  #looked(): void {
    const record = this.#store.container;
    if (record && !record.isStopped && !this.container.isRunning) this.#object.ended();
  }
}
