import { z } from "zod";
import { ApiError, hasCode, unsupported } from "../../contract/errors.ts";
import type { StartSpec } from "../../contract/host-protocol.ts";
import { isCutOff, type NetworkPolicy, NetworkPolicySchema } from "../../contract/network.ts";
import { type Container, type Prepare, StartFailure } from "../runtime.ts";
import { type Start, StartFiles } from "../start-files.ts";
import { tooSlow, withTimeLimit } from "../time-limit.ts";
import { Authority, KeptAuthoritySchema } from "./authority.ts";
import { Confinement, type ConfinementOptions, rawPortsOf } from "./confinement.ts";
import { needsRules } from "./rules.ts";

const APPLY_TIMEOUT_MS = 12_000;
/** More processes at once would only wait for each other. */
const RECOVERED_AT_ONCE = 8;
const RECOVER_ATTEMPTS = 3;

const CUT_OFF: NetworkPolicy = { outbound: { cidrs: [], domains: [] } };

const KeptSchema = z.object({
  revision: z.int(),
  policy: NetworkPolicySchema,
  /** Whom its programs trust, where something is added to their requests: for all of its life. */
  authority: KeptAuthoritySchema.optional(),
});

export interface NetworksOptions extends ConfinementOptions {
  /** Where policies are kept for the next run of this daemon. */
  folder: string;
  /** Whether rules can be set for containers. Where they cannot, those that would need the gate reach nobody. */
  canSetRules: boolean;
}

/** What is known of the network of one container. */
interface Held {
  policy: NetworkPolicy;
  authority: Authority | undefined;
  confinement: Confinement | undefined;
  /** Settles when nobody works at it. */
  idle: Promise<unknown>;
}

/** The owner of the networks of all containers on this machine: holds each to its policy until it has gone. */
export class Networks {
  readonly #options: NetworksOptions;
  readonly #files: StartFiles<z.infer<typeof KeptSchema>>;
  readonly #held = new Map<string, Held>();

  constructor(options: NetworksOptions) {
    this.#options = options;
    this.#files = new StartFiles(options.folder, KeptSchema);
  }

  /**
   * A container is about to start. Answers what must be done once it stands and before anything of its sandbox runs in it, if anything.
   * Throws {@link StartFailure}. What it holds is to be released, also when the start fails.
   */
  preparing(spec: Pick<StartSpec, "sandbox_id" | "generation" | "network" | "raw_ports">): Prepare | undefined {
    const { egress, canSetRules } = this.#options;
    const policy = spec.network ?? {};
    if (!this.#canHold(policy, spec.raw_ports)) throw new StartFailure("This host cannot set rules for a network.");
    const start = { sandboxId: spec.sandbox_id, generation: spec.generation };
    const authority = policy.headers?.length ? Authority.for(start.sandboxId, policy.headers) : undefined;
    if (spec.network) this.#files.write(start, { revision: 0, policy, authority: authority?.toJSON() });
    const held = this.#hold(start, policy, authority);
    if (!canSetRules || !needsRules(policy, { egress, rawPorts: spec.raw_ports })) return undefined;
    return (container) =>
      this.#inTurn(held, () => {
        // An attempt with another container may have failed: its network is not this one's.
        held.confinement?.close();
        held.confinement = undefined;
        return this.#apply(held, container, { hasRun: false });
      });
  }

  /**
   * Sets other rules, and cuts what they forbid; done once they hold. Nothing happens where newer ones do. Throws `sandbox_ended`, and
   * `unsupported_by_backend` where there can be none.
   */
  async update(container: Container, revision: number, policy: NetworkPolicy): Promise<void> {
    if (!this.#canHold(policy, rawPortsOf(container))) throw unsupported("network", "this host cannot set such rules");
    const key = keyOf(container);
    const held = this.#held.get(key) ?? this.#hold(container, {}, undefined);
    if (policy.headers?.length && !held.authority)
      throw unsupported("egress_headers", "the sandbox was not started with any");
    await this.#inTurn(held, async () => {
      if (this.#held.get(key) !== held) throw new ApiError("sandbox_ended");
      const before = this.#files.read(container);
      if (before && before.revision > revision) return;
      // First of all: a daemon that is killed on the way has a next one that sets them.
      this.#files.write(container, { revision, policy, authority: before?.authority });
      held.policy = policy;
      await this.#apply(held, container, { hasRun: true });
    });
  }

  /** Holds the containers that an earlier daemon left to their policies, and forgets those of others. Answers which it could not. */
  async recover(containers: readonly Container[]): Promise<Container[]> {
    this.#files.sweep(containers);
    const left = [...containers];
    const failed: Container[] = [];
    const work = async () => {
      for (let container = left.pop(); container; container = left.pop())
        if (!(await this.#recover(container))) failed.push(container);
    };
    await Promise.all(Array.from({ length: RECOVERED_AT_ONCE }, work));
    return failed;
  }

  /** The policy of a container as it holds now; undefined where nothing was ever said. */
  policyOf(start: Start): NetworkPolicy | undefined {
    return this.#held.get(keyOf(start))?.policy;
  }

  /** The container has gone, or never came: forgets all of it. */
  release(start: Start): void {
    const key = keyOf(start);
    this.#held.get(key)?.confinement?.close();
    this.#held.delete(key);
    this.#files.remove(start);
  }

  /** Closes what stands open for containers; their rules stay, and with them nothing passes that needs this daemon. */
  close(): void {
    for (const { confinement } of this.#held.values()) confinement?.close();
    this.#held.clear();
  }

  async #recover(container: Container): Promise<boolean> {
    const { egress, canSetRules } = this.#options;
    const kept = this.#files.read(container);
    const isUnreadable = !kept && this.#files.has(container);
    if (isUnreadable)
      console.error(`sandbar host: nobody knows ${container.sandboxId}'s rules, its network is cut off`);
    const policy = kept?.policy ?? (isUnreadable ? CUT_OFF : {});
    const held = this.#hold(container, policy, kept?.authority && Authority.from(kept.authority));
    if (!canSetRules || (egress === "routed" && !kept && !isUnreadable)) return true;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#inTurn(held, () => this.#apply(held, container, { hasRun: true }));
        return true;
      } catch (error) {
        if (hasCode(error, "sandbox_ended")) return true;
        console.error(`sandbar host: the rules of ${container.sandboxId}'s network could not be set:`, error);
        if (attempt === RECOVER_ATTEMPTS) return false;
      }
    }
  }

  #hold(start: Start, policy: NetworkPolicy, authority: Authority | undefined): Held {
    const held: Held = { policy, authority, confinement: undefined, idle: Promise.resolve() };
    this.#held.set(keyOf(start), held);
    return held;
  }

  /** Without rules nothing can be held to them, but a container that reaches nobody anyway is cut off. */
  #canHold(policy: NetworkPolicy, rawPorts: readonly number[]): boolean {
    const { egress, canSetRules } = this.#options;
    if (canSetRules) return true;
    const isMet = egress === "gated" && isCutOff(policy);
    return isMet || !needsRules(policy, { egress: "routed", rawPorts });
  }

  async #apply(held: Held, container: Container, how: { hasRun: boolean }): Promise<void> {
    if (!this.#options.canSetRules) return;
    if (this.#held.get(keyOf(container)) !== held) throw new ApiError("sandbox_ended");
    held.confinement ??= new Confinement(container, this.#options, held.authority);
    await held.confinement.apply(held.policy, how);
  }

  /** One after the other, and none waits for ever. */
  #inTurn(held: Held, work: () => Promise<void>): Promise<void> {
    const done = held.idle.then(work);
    held.idle = done.catch(() => {});
    return withTimeLimit(done, APPLY_TIMEOUT_MS, tooSlow("Setting the rules of the network"));
  }
}

const keyOf = ({ sandboxId, generation }: Start) => `${sandboxId}.${generation}`;
