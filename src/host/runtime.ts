import { Readable, type Duplex, type Writable } from "node:stream";
import type { Capabilities } from "../contract/host-info.ts";
import type { ContainerExit, ExecSpec, ImageTarget, StartSpec, WarmSpec } from "../contract/host-protocol.ts";
import type { SignalName, TerminalSize } from "../contract/process.ts";

/**
 * What runs containers on this machine. `docker` and `embedded` implement it; the rest of the host
 * knows nothing else of them. One owner: whoever calls `start` or `recover` holds the containers.
 */
export interface Runtime {
  readonly kind: "docker" | "embedded";
  /** The image of a sandbox that names none. */
  readonly defaultImage: string;
  readonly capabilities: Capabilities;
  readonly egress: Egress;
  /** What its containers share. */
  readonly resources: Resources;
  /** Starts containers ahead of their sandboxes; absent where that cannot be done. */
  readonly warm?: WarmSource;
  /**
   * Makes and starts a container. Throws {@link StartFailure} when it never can; leaves nothing behind
   * whenever it throws.
   */
  start(spec: StartSpec, binds?: readonly Bind[], prepare?: Prepare): Promise<Container>;
  /** The containers of sandboxes that an earlier run of this daemon left, running or ended, found by label or state file. */
  recover(): Promise<Container[]>;
  /** Whether the snapshot is on this machine. */
  hasImage(imageId: string): Promise<boolean>;
  /** The snapshots on this machine, made here or pulled. */
  listImages(): Promise<string[]>;
  /** Other images that users can name and that are here, by reference. */
  listReferences(): Promise<string[]>;
  /** Why containers cannot be given these devices of this machine; undefined where they can. Asked once there are some. */
  whyNoGpus(uuids: readonly string[]): Promise<string | undefined>;
  /** Stores a snapshot of this machine in the control plane's registry. `uploadedBytes`: what that did not have. */
  pushImage(imageId: string, target: ImageTarget): Promise<{ uploadedBytes: number }>;
  /** Removes a snapshot; nothing happens when there is none. */
  removeImage(imageId: string): Promise<void>;
}

/** How containers reach others: by a way of their own, or by this daemon's gate (`network/gate.ts`) only. */
export type Egress = "routed" | "gated";

/**
 * Called once a container stands and before anything of its sandbox runs in it: it is not started where this throws. Without a first
 * process of ours there is no such moment, and a runtime that is given one refuses with {@link StartFailure}.
 */
export type Prepare = (container: Container) => Promise<void>;

/** A folder of this machine that a container sees at a path of its own; the folder itself is root's there. */
export interface Bind {
  /** Absolute, on this machine. */
  source: string;
  /** Absolute, inside. */
  path: string;
  readOnly: boolean;
}

/** What of the machine a runtime has for its containers. */
export interface Resources {
  /** Cores. */
  cpu: number;
  /** MiB. */
  memory: number;
  /** On the filesystem on which they are. */
  diskDir: string;
}

/** What starts containers before anybody asks for them. They are the caller's, as those of `start` are. */
export interface WarmSource {
  /** Gets what is missing on this machine to start one: its image. Throws {@link StartFailure} when that can never be had. */
  prepare(spec: WarmSpec): Promise<void>;
  /** Starts one. Throws {@link StartFailure} when it never can, also for an id that has a container; leaves nothing behind whenever it throws. */
  start(spec: WarmSpec): Promise<WarmContainer>;
  /** Those that an earlier run of this daemon left, and that no sandbox has: known once `Runtime.recover` is done. */
  recovered(): WarmContainer[];
}

/** A container that idles until it becomes a sandbox's: once at most. */
export interface WarmContainer {
  /** What it was made from. */
  readonly spec: WarmSpec;
  /** Resolves when it has ended, whoever has it then. Never rejects. */
  readonly ended: Promise<unknown>;
  isAlive(): Promise<boolean>;
  /**
   * Makes it the sandbox's, as if it had been started from this spec: with the variables, the entrypoint and the deadline. Throws
   * {@link StartFailure} where a new one could not start either; leaves nothing behind whenever it throws.
   */
  adopt(spec: StartSpec, prepare?: Prepare): Promise<Container>;
  /** Removes it with all it left on this machine. Idempotent. */
  stop(): Promise<void>;
}

/** What a process is made from; what the runtime cannot do it refuses with `unsupported_by_backend`, naming the field. */
export interface SpawnSpec extends Pick<
  ExecSpec,
  "process_id" | "command" | "env" | "workdir" | "user" | "pty" | "stdout" | "stderr"
> {
  /** Its input: none, what this daemon gives it now, or left open also over a restart of this daemon. */
  input: "none" | "once" | "open";
  /** Much is to pass its pipes: those hold more then, where this machine has them in its hand. */
  isBulk?: boolean;
}

/** One container. It exists until `stop` is done, also after its own end. */
export interface Container {
  readonly sandboxId: string;
  readonly generation: number;
  /** Milliseconds since 1970. */
  readonly deadlineAt: number;
  /** The id under which its filesystem is kept when it is ended at its deadline. */
  readonly endImage: string | undefined;
  /** Raw TCP ports as the machine publishes them, by container port. */
  readonly publishedPorts: Record<string, number>;
  /** The UUIDs of the GPUs that it has to itself until `stop` is done. */
  readonly gpus: readonly string[];
  /** Resolves when the entrypoint (or, without one, everything) has ended by itself or by a kill. Never rejects. */
  readonly exited: Promise<Omit<ContainerExit, "deadline">>;
  /** The entrypoint as a process, where there is one; also one found by `recover`. */
  readonly main: Spawned | undefined;
  /** Kills everything in the container and removes it with all it left on this machine. Idempotent. */
  stop(): Promise<void>;
  /** Starts a process. A program that is not there is no error: the process ends with 127 or 126. */
  spawn(spec: SpawnSpec): Promise<Spawned>;
  /**
   * A process of this id and handle that an earlier daemon started; undefined when nothing is left of it. `unstarted` when the
   * launcher, if it was to start it, has not done so and will not: that daemon ended too early.
   */
  adopt(processId: string, handle: string | undefined): Promise<Spawned | "unstarted" | undefined>;
  /** Called after every `adopt`: what an earlier daemon started and nobody asked for is ended. */
  dropUnclaimed(): void;
  /** How many processes the kernel has killed in here for want of memory; undefined where that cannot be known. */
  oomKills(): number | undefined;
  /**
   * Opens the root directory of the container as this machine sees it, as a place to open others below (`linux/confined.ts`); the caller
   * closes it. Undefined where this daemon may not, or the container's files are not on this machine; throws `sandbox_ended`.
   */
  openRoot?(): number | undefined;
  /** Whether its processes see every file of it, as they are started without a user; then whoever opens its root sees what they see. */
  seesEveryFile?(): boolean;
  /** Changes what is below its root from this machine: not while a snapshot holds its processes still, and the next one waits for it. */
  change?<T>(work: () => Promise<T>): Promise<T>;
  /**
   * Opens the container's network namespace; the caller closes it. Undefined where this daemon may not, or the network is not of this
   * machine's kernel; throws `sandbox_ended`.
   */
  openNetwork?(): number | undefined;
  /** Opens a TCP connection to a port inside; rejects with ECONNREFUSED when nothing listens. */
  dial(port: number): Promise<Duplex>;
  /** Keeps the filesystem as an image on this machine. The container keeps running. `size` in bytes. */
  snapshot(imageId: string): Promise<{ size: number }>;
}

/** What a process writes, to be taken once, by one of the ways. Ends when the last writer has gone. */
export interface ProcessOutput {
  /** As the reading end of a pipe, where it is one. */
  descriptor?(): number;
  stream(): Readable;
}

export const NO_OUTPUT: ProcessOutput = { stream: () => Readable.from([]) };

/** A process inside of a container. */
export interface Spawned {
  /** True of a process whose input went down with an earlier daemon: nothing that is written reaches it. */
  readonly isInputLost?: boolean;
  /** What finds it again after a restart of this daemon, where its id does not. */
  readonly handle?: string;
  /** Calls back once the pipe has taken what was written. Its end is the end of the process's input. */
  readonly stdin: Writable;
  readonly stdout: ProcessOutput;
  readonly stderr: ProcessOutput;
  /** n, or 128+s after signal s; undefined when it went down with its container. Never rejects. */
  readonly exited: Promise<number | undefined>;
  /** Signals the process group. Nothing happens once it has ended. */
  kill(signal: SignalName): Promise<void>;
  /** Sets the size of its terminal; absent where it has none. */
  resize?(size: TerminalSize): Promise<void>;
  /** Its end is known for good: lets go of all that is kept of it until then. To be called once it has exited. */
  release(): void;
}

/** A container that can never start; the message is for the user (`error` of the sandbox). */
export class StartFailure extends Error {
  override readonly name = "StartFailure";
}
