import type { Duplex, Readable, Writable } from "node:stream";
import type { Capabilities, ContainerExit, ExecSpec, StartSpec } from "../contract/host-protocol.ts";
import type { SignalName } from "../contract/process.ts";

/**
 * What runs containers on this machine. `docker` and `embedded` implement it; the rest of the host
 * knows nothing else of them. One owner: whoever calls `start` or `recover` holds the containers.
 */
export interface Runtime {
  readonly kind: "docker" | "embedded";
  /** The image of a sandbox that names none. */
  readonly defaultImage: string;
  readonly capabilities: Capabilities;
  /**
   * Makes and starts a container. Throws {@link StartFailure} when it never can; leaves nothing behind
   * whenever it throws.
   */
  start(spec: StartSpec): Promise<Container>;
  /** The containers that an earlier run of this daemon left, running or ended, found by label or state file. */
  recover(): Promise<Container[]>;
  /** Removes a snapshot; nothing happens when there is none. */
  removeImage(imageId: string): Promise<void>;
}

/** One container. It exists until `stop` is done, also after its own end. */
export interface Container {
  readonly sandboxId: string;
  readonly generation: number;
  /** Milliseconds since 1970. */
  readonly deadlineAt: number;
  /** Raw TCP ports as the machine publishes them, by container port. */
  readonly publishedPorts: Record<string, number>;
  /** Resolves when the entrypoint (or, without one, everything) has ended by itself or by a kill. Never rejects. */
  readonly exited: Promise<Omit<ContainerExit, "deadline">>;
  /** Kills everything in the container and removes it with all it left on this machine. Idempotent. */
  stop(): Promise<void>;
  /** Starts a process. A program that is not there is no error: the process ends with 127 or 126. */
  spawn(spec: Pick<ExecSpec, "process_id" | "command" | "env" | "workdir">): Promise<Spawned>;
  /** Opens a TCP connection to a port inside; rejects with ECONNREFUSED when nothing listens. */
  dial(port: number): Promise<Duplex>;
  /** Keeps the filesystem as an image on this machine. The container keeps running. `size` in bytes. */
  snapshot(imageId: string): Promise<{ size: number }>;
}

/** A process inside of a container. */
export interface Spawned {
  readonly stdin: Writable;
  /** Ends when the process has ended and its own output is through. */
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** n, or 128+s after signal s. Never rejects: a container that ends takes its processes with 137. */
  readonly exited: Promise<number>;
  /** Signals the process group. Nothing happens once it has ended. */
  kill(signal: SignalName): Promise<void>;
}

/** A container that can never start; the message is for the user (`error` of the sandbox). */
export class StartFailure extends Error {
  override readonly name = "StartFailure";
}
