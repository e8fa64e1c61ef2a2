import type { KnownImage } from "./images.ts";

/** A sandbox as the API shows it, as far as this suite looks at it. */
export interface SandboxDocument {
  sandbox_id: string;
  state: string;
  name?: string;
  tags: Record<string, string>;
  timeout: number;
  idle_timeout?: number;
  created_at: string;
  started_at?: string;
  finished_at?: string;
  finish_reason?: string;
  returncode?: number;
  error?: string;
}

export const isEnded = ({ state }: Pick<SandboxDocument, "state">) => state === "finished" || state === "terminated";

/** What a create asks for. Every one has a tag of its own, by which its sandbox is known again. */
export interface CreateBody {
  tags: Record<string, string>;
  name?: string;
  entrypoint?: string[];
  timeout?: number;
  idle_timeout?: number;
  image?: string;
}

export interface ExpectedExit {
  returncode: number;
  /** At the earliest, seconds after its start. */
  afterS: number;
}

/** The tag that names the create of a sandbox. */
export const OPERATION_TAG = "operation";

/** One POST that creates, however often it was sent. */
export interface CreateRequest {
  operation: string;
  body: CreateBody;
  /** How its entrypoint ends by itself. */
  exit: ExpectedExit | undefined;
  key: string | undefined;
  /** Refused for good every time: there must be no sandbox of it. */
  isRefused: boolean;
  /** What its clients were answered. */
  answers: string[];
  /** Sent once more, after the faults. */
  isRepeated?: boolean;
}

/** A value that a client sets: what it may be, given what was acknowledged and what is unknown. */
export class Settable<Value> {
  #possible: Value[];
  /** All that it may ever have been. */
  readonly ever: Value[];

  constructor(first: Value) {
    this.#possible = [first];
    this.ever = [first];
  }

  acknowledged(value: Value): void {
    this.#possible = [value];
    this.ever.push(value);
  }

  asked(value: Value): void {
    this.#possible.push(value);
    this.ever.push(value);
  }

  canBe(value: Value): boolean {
    return this.#possible.some((one) => JSON.stringify(one) === JSON.stringify(value));
  }

  toString(): string {
    return this.#possible.map((one) => JSON.stringify(one)).join(" or ");
  }
}

export interface KnownProcess {
  processId: string;
  stdout: string;
  returncode: number;
}

/** What the clients know of one sandbox. */
export class KnownSandbox {
  readonly sandboxId: string;
  readonly request: CreateRequest;
  readonly tags: Settable<Record<string, string>>;
  readonly timeout: Settable<number>;
  readonly idleTimeout: Settable<number | null>;
  readonly name: Settable<string | null>;
  readonly files = new Map<string, Settable<string>>();
  readonly processes: KnownProcess[] = [];
  /** Files to which an exec that was sent again and again has written one line. */
  readonly once: string[] = [];
  deletion: "none" | "asked" | "acknowledged" = "none";
  /** The end as it was first seen. */
  end: SandboxDocument | undefined;
  /** Its end has been looked at in every way. */
  isSettled = false;

  constructor(sandboxId: string, request: CreateRequest) {
    this.sandboxId = sandboxId;
    this.request = request;
    this.tags = new Settable(request.body.tags);
    this.timeout = new Settable(request.body.timeout ?? 300);
    this.idleTimeout = new Settable(request.body.idle_timeout ?? null);
    this.name = new Settable(request.body.name ?? null);
  }

  get isLive(): boolean {
    return this.end === undefined && this.deletion !== "acknowledged";
  }
}

const TOLD_MS = 10_000;
const OUTAGE_ECHO_MS = 2_000;

/** What all clients were told, and what was done to the site meanwhile. */
export class Ledger {
  readonly requests = new Map<string, CreateRequest>();
  readonly sandboxes = new Map<string, KnownSandbox>();
  readonly images: KnownImage[] = [];
  /** What was injected when; times are milliseconds since 1970. */
  readonly faults: { at: number; fault: string }[] = [];
  /** Those whose container was killed from outside. */
  readonly killed = new Set<string>();
  /** When the engine was down, and whether it took over what ran before; times are milliseconds since 1970. */
  readonly outages: { from: number; until: number; restores: boolean }[] = [];

  /** A sandbox that was acknowledged, or found in the list with the tag of its create. */
  know(sandboxId: string, request: CreateRequest): KnownSandbox {
    const known = this.sandboxes.get(sandboxId) ?? new KnownSandbox(sandboxId, request);
    this.sandboxes.set(sandboxId, known);
    return known;
  }

  /** What was injected in the last seconds of this sandbox's life, for the person who looks into its end. */
  faultsAround(sandbox: SandboxDocument): string {
    return this.faultsBefore(sandbox.finished_at === undefined ? Date.now() : Date.parse(sandbox.finished_at));
  }

  /** What was injected in the seconds before, and just after. */
  faultsBefore(when: number): string {
    return this.faults
      .filter(({ at }) => at > when - TOLD_MS && at < when + 1000)
      .map(({ at, fault }) => `${fault} ${((at - when) / 1000).toFixed(2)} s`)
      .join(", ");
  }

  /** Whether the engine is down, or was a moment ago. */
  get isEngineOut(): boolean {
    return this.outages.some(({ until }) => until > Date.now() - OUTAGE_ECHO_MS);
  }

  /** Whether the engine was down while this sandbox had or made its container; `lost` when it then ended what it found. */
  engineHarm(sandbox: SandboxDocument): "none" | "restored" | "lost" {
    const from = Date.parse(sandbox.created_at);
    const until = sandbox.finished_at === undefined ? Infinity : Date.parse(sandbox.finished_at);
    const met = this.outages.filter((outage) => outage.from <= until && outage.until >= from);
    if (met.length === 0) return "none";
    return met.some(({ restores }) => !restores) ? "lost" : "restored";
  }
}
