import type { Backend } from "../../src/backends/backend.ts";
import type { AttachSpec } from "../../src/contract/attach.ts";
import type { ErrorCode } from "../../src/contract/errors.ts";
import type { ContainerExit, ExecSpec, ImageTarget, StartSpec } from "../../src/contract/host-protocol.ts";
import type { NetworkPolicy } from "../../src/contract/network.ts";
import { MAIN_PROCESS_ID } from "../../src/contract/ids.ts";
import { FakeBackend } from "./fake-backend.ts";
import type { FakeFiles } from "./fake-files.ts";
import { FakeProcess } from "./fake-process.ts";
import { runProgram } from "./fake-programs.ts";
import { FakeMounts, FakeVolumes } from "./fake-volumes.ts";

/** Dials back to the object of the sandbox, and serves the socket from then on. Done once it stands. */
export type DialBack = (sandboxId: string, process: FakeProcess, spec: AttachSpec) => Promise<void>;

/** A container in memory: as strict as a real one about what is there and what is not. */
export class FakeContainer {
  readonly spec: StartSpec;
  readonly files: FakeFiles;
  readonly mounts: FakeMounts;
  readonly processes = new Map<string, FakeProcess>();
  lastActiveAt = Date.now();
  deadlineAt: number;
  /** The rules that hold. */
  network: NetworkPolicy | undefined;
  #deadlineRevision = 0;
  #networkRevision = 0;
  #exit: ContainerExit | undefined;

  constructor(spec: StartSpec, files: FakeFiles, volumes: FakeVolumes) {
    this.spec = spec;
    this.files = files;
    this.mounts = new FakeMounts(volumes, files, spec.volumes);
    this.network = spec.network;
    this.deadlineAt = Date.now() + spec.lifetime_ms;
    if (!spec.entrypoint) return;
    this.launch({ process_id: MAIN_PROCESS_ID, command: spec.entrypoint, env: {}, ...(spec.pty && { pty: spec.pty }) });
  }

  launch(spec: ExecSpec): FakeProcess {
    const process = new FakeProcess(spec);
    this.processes.set(spec.process_id, process);
    runProgram(process, this);
    process.begin();
    return process;
  }

  moveDeadline(revision: number, deadlineAt: number): void {
    if (revision < this.#deadlineRevision) return;
    this.#deadlineRevision = revision;
    this.deadlineAt = deadlineAt;
  }

  setNetwork(revision: number, policy: NetworkPolicy): void {
    if (revision < this.#networkRevision) return;
    this.#networkRevision = revision;
    this.network = policy;
  }

  /** How the container ended, if it has: with its entrypoint it does, and at its deadline. */
  get exit(): ContainerExit | undefined {
    if (!this.#exit && Date.now() >= this.deadlineAt) this.end({ returncode: 124, oom: false, deadline: true });
    const main = this.processes.get(MAIN_PROCESS_ID)?.tick();
    if (!this.#exit && main && main.returncode !== null) {
      this.end({ returncode: main.returncode, oom: false, deadline: false });
    }
    return this.#exit;
  }

  /** Ends the container; all that still runs in it goes down. */
  end(exit: ContainerExit): void {
    this.#exit ??= exit;
    const main = this.processes.get(MAIN_PROCESS_ID);
    if (exit.oom) main?.exit(137, "oom");
    else if (!exit.deadline) main?.exit(exit.returncode);
    this.takeDown();
  }

  takeDown(): void {
    for (const process of this.processes.values()) process.tick().exit(137, "sandbox_ended");
  }

  /** A fake server listens where a process `serve PORT` runs. */
  listens(port: number): boolean {
    return [...this.processes.values()].some(
      ({ spec, returncode }) => returncode === null && spec.command[0] === "serve" && spec.command[1] === String(port),
    );
  }

  /** True while something runs that was asked for, or is watched; the entrypoint is not. */
  get isBusy(): boolean {
    const busy = [...this.processes.values()].some(
      (process) =>
        process.tick().returncode === null && process.spec.process_id !== MAIN_PROCESS_ID && !process.spec.is_probe,
    );
    const isUsed = busy || this.files.isWatched;
    if (isUsed) this.lastActiveAt = Date.now();
    return isUsed;
  }
}

/** A host in memory. It outlives the objects that speak to it, as a real one does. */
export class FakeHost {
  /** What every port answers, in place of the little that a fake server says. */
  app: ((request: Request) => Response | Promise<Response>) | undefined;
  /** Whose requests came to a port. */
  readonly clients: (string | undefined)[] = [];
  readonly containers = new Map<string, FakeContainer>();
  /** Those that were removed: their processes can still be read. */
  readonly removed = new Map<string, FakeContainer>();
  readonly images = new Map<string, FakeFiles>();
  readonly volumes = new FakeVolumes();
  /** Stores an image of these layers in the control plane's registry. */
  push: ((target: ImageTarget, layers: Uint8Array[]) => Promise<void>) | undefined;
  /** How many times each sandbox was started anew. */
  readonly launches = new Map<string, number>();
  /** The sandboxes that were stopped: a start that comes after it is refused. */
  readonly stopped = new Set<string>();
  /** Set to make the host not answer. */
  isDown = false;
  /** Set to hold every start under way until it is false again. */
  holdsStarts = false;
  /** Starts that are held now. */
  heldStarts = 0;
  /** Milliseconds that it takes to answer so, the next time. */
  readonly slow: { inspect: number[]; setDeadline: number[] } = { inspect: [], setDeadline: [] };
  /** Set to hold no rules for networks. */
  hasNoRules = false;
  /** Set to take rules for networks, and then not to say so. */
  losesAnswers = false;
  /** Set to refuse every exec so. */
  refusal: ErrorCode | undefined;
  /** Set to refuse everything with files so. */
  fileRefusal: ErrorCode | undefined;
  /** Set to make the archives that it sends break off before their end. */
  breaksArchives = false;
  /** Set to make the sockets that it has opened break off. */
  cutsSockets = false;
  /** Set to not tell on its sockets how processes end, as one that has gone away. */
  isMute = false;
  /** How many sockets stand, by sandbox. */
  readonly attached = new Map<string, number>();
  /** How often it was asked how a container is. */
  inspections = 0;

  open(sandboxId: string, dialBack?: DialBack): Backend {
    return new FakeBackend(this, sandboxId, dialBack);
  }

  /** Ends the container as its entrypoint would. */
  exit(sandboxId: string, exit: Partial<ContainerExit> = {}): void {
    this.containers.get(sandboxId)?.end({ returncode: 0, oom: false, deadline: false, ...exit });
  }

  /** Removes the container, and keeps what its processes wrote. */
  remove(sandboxId: string): void {
    const container = this.containers.get(sandboxId);
    if (!container) return;
    if (!container.exit) container.takeDown();
    this.containers.delete(sandboxId);
    this.removed.set(sandboxId, container);
  }

  /** Forgets the sandbox, output and all, as a host does after a while. */
  forget(sandboxId: string): void {
    this.containers.delete(sandboxId);
    this.removed.delete(sandboxId);
  }
}

/** The ports of the machine at which it says that a container's are. */
export function publish(spec: StartSpec): Record<string, number> {
  return Object.fromEntries(spec.raw_ports.map((port) => [String(port), 40_000 + (port % 20_000)]));
}
