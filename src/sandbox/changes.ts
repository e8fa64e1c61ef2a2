import { ApiError } from "../contract/errors.ts";
import { isLive, type SandboxCreate, type SandboxPatch } from "../contract/sandbox.ts";
import { withNetworkPatch } from "../contract/sandbox-network.ts";
import { timeoutOf } from "./describe.ts";
import type { HostDeadline } from "./host-deadline.ts";
import { endedError, type Lifecycle } from "./lifecycle.ts";
import type { NetworkRules } from "./network-rules.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

/** How long a change waits for those before it: a name that was claimed for it is its own for longer. */
const MAX_WAIT_MS = 30_000;

/** Changes what a client may change of a sandbox: all that it asks for, or nothing. One change at a time. */
export class Changes {
  readonly #lifecycle: Lifecycle;
  readonly #timers: Timers;
  readonly #deadline: HostDeadline;
  readonly #network: NetworkRules;
  readonly #now: () => number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(lifecycle: Lifecycle, timers: Timers, deadline: HostDeadline, network: NetworkRules, now: () => number) {
    this.#lifecycle = lifecycle;
    this.#timers = timers;
    this.#deadline = deadline;
    this.#network = network;
    this.#now = now;
  }

  /**
   * Throws `sandbox_ended` (of an ended one only the tags change), `conflict` for a second name, `backend_unavailable`, and
   * `unsupported_by_backend` of rules for its network where it is.
   */
  make(patch: SandboxPatch): Promise<void> {
    const giveUpAt = this.#now() + MAX_WAIT_MS;
    const made = this.#last.then(() => {
      if (this.#now() > giveUpAt)
        throw new ApiError("backend_unavailable", {
          detail: "Other changes wait for the sandbox's host.",
          retryAfter: 5,
        });
      return this.#make(patch);
    });
    this.#last = made.catch(() => undefined);
    return made;
  }

  async #make(patch: SandboxPatch): Promise<void> {
    const record = this.#lifecycle.record!;
    refuse(record, patch);
    const { timeout } = patch;
    const commit = () => {
      // It may have ended while its host was told.
      refuse(this.#lifecycle.record!, patch);
      this.#commit(patch);
    };
    const changeNetwork = () => this.#network.change(patch, commit);
    if (timeout === undefined || timeout === timeoutOf(record)) return changeNetwork();
    await this.#deadline.move(timeout, changeNetwork);
  }

  #commit(patch: SandboxPatch): void {
    const record = this.#lifecycle.record!;
    const create = changed(record.create, patch);
    const { timeout, idle_timeout: idleTimeout } = create;
    if (JSON.stringify(create) !== JSON.stringify(record.create)) {
      this.#lifecycle.edit(
        { create },
        {
          fields: Object.keys(patch),
          timeout: timeoutOf({ ...record, create }),
          ...(idleTimeout !== undefined && { idle_timeout: idleTimeout }),
        },
      );
    }
    if (!isLive(record.state)) return;
    if (timeout !== undefined && record.startedAt !== undefined)
      this.#timers.set("lifetime", record.startedAt + timeout * 1000);
    if (patch.idle_timeout === undefined) return;
    this.#timers.clear("idle");
    this.#lifecycle.touch();
  }
}

function refuse(record: SandboxRecord, patch: SandboxPatch): void {
  const { tags: _, name, ...others } = patch;
  const isOver = !isLive(record.state);
  if (isOver && [name, ...Object.values(others)].some((value) => value !== undefined)) throw endedError(record);
  const before = record.create.name;
  if (name !== undefined && before !== undefined && before !== name)
    throw new ApiError("conflict", { detail: `The sandbox has the name \`${before}\` already, and keeps it.` });
}

function changed(before: SandboxCreate, patch: SandboxPatch): SandboxCreate {
  const { tags, timeout, idle_timeout: idleTimeout, name } = patch;
  const after = {
    ...withNetworkPatch(before, patch),
    ...(tags && { tags }),
    ...(timeout !== undefined && { timeout }),
    ...(typeof idleTimeout === "number" && { idle_timeout: idleTimeout }),
    ...(name !== undefined && { name }),
  };
  if (idleTimeout === null) delete after.idle_timeout;
  return after;
}
