import { asApiError, hasCode } from "../contract/errors.ts";
import { isCutOff, type NetworkPolicy } from "../contract/network.ts";
import type { SandboxCreate } from "../contract/sandbox.ts";
import {
  NETWORK_PATCH_FIELDS,
  networkPolicyOf,
  outboundOf,
  withNetworkPatch,
  type NetworkFields,
  type NetworkPatch,
} from "../contract/sandbox-network.ts";
import { unsupported } from "../placement/admission.ts";
import type { HostLink } from "./host-link.ts";
import { HostSetting } from "./host-setting.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { overRestarts } from "./over-restarts.ts";
import type { Places } from "./places.ts";
import type { SandboxRecord } from "./store.ts";
import type { Timers } from "./timers.ts";

export interface NetworkRulesParts {
  lifecycle: Lifecycle;
  timers: Timers;
  host: HostLink;
  places: Pick<Places, "amend">;
  /** What is added to the sandbox's requests. Throws where it cannot be had. */
  headersOf: (record: SandboxRecord) => Promise<NetworkPolicy["headers"]>;
  now: () => number;
}

/** Keeps the rules that the host holds for the network of the sandbox with those of the sandbox. */
export class NetworkRules {
  readonly #parts: NetworkRulesParts;
  readonly #setting: HostSetting;

  constructor(parts: NetworkRulesParts) {
    this.#parts = parts;
    this.#setting = new HostSetting(parts.lifecycle, parts.timers, "network", parts.now);
  }

  /**
   * Has the rules hold as the patch has them, and then written down by `commit`. Throws `backend_unavailable` where the host does not
   * answer, and `unsupported_by_backend` in the name of the patch's fields where it holds no rules; then nothing changes.
   */
  async change(patch: NetworkPatch, commit: () => void): Promise<void> {
    const { lifecycle, places } = this.#parts;
    const create = withNetworkPatch(lifecycle.record!.create, patch);
    const before = heldFields(lifecycle.record!);
    if (isSamePolicy(before, heldFields({ ...lifecycle.record!, create }))) return commit();
    const fields = changedFields(before, patch);
    const tell = () => inNameOf(fields, () => this.#tell(create));
    const ahead = () => inNameOf(fields, () => places.amend({ ...lifecycle.record!, create }));
    const write = () => {
      // One that starts later starts with them, and one that is being started is told them before it counts as started.
      if (!this.#setting.isStarted) lifecycle.update({ networkRevision: lifecycle.record!.networkRevision + 1 }, false);
      commit();
    };
    await this.#setting.change(tell, write, ahead);
  }

  /** Tells the host of the rules that are written down, until it has them. Never throws. */
  confirm(): Promise<void> {
    return this.#setting.confirm(async () => {
      try {
        await this.#tell(this.#parts.lifecycle.record!.create);
      } catch (error) {
        // Where there can be no rules none were changed.
        if (!hasCode(error, "unsupported_by_backend")) throw error;
      }
    });
  }

  /** Has a container that came up with the rules of this revision hold those that are written down now. Throws as `change` does. */
  settle(revision: number): Promise<void> {
    return this.#setting.inTurn(async () => {
      const { networkRevision, create } = this.#parts.lifecycle.record!;
      if (networkRevision !== revision) await this.#tell(create);
    });
  }

  async #tell(create: SandboxCreate): Promise<void> {
    const { lifecycle, host, headersOf, now } = this.#parts;
    const record = lifecycle.record!;
    const outbound = outboundOf(create);
    // What sends nothing needs nothing added: that its secrets cannot be had does not keep it from being cut off.
    const otherwise = outbound && isCutOff({ outbound }) ? () => undefined : undefined;
    const policy = networkPolicyOf(create, await headersOf(record).catch(otherwise)) ?? {};
    const revision = lifecycle.record!.networkRevision + 1;
    lifecycle.update({ networkRevision: revision }, false);
    await overRestarts(host, now, () => host.open().setNetwork({ revision, policy }));
  }
}

/** What of the sandbox is a matter of where it runs: a container beside its object is reached through that alone. */
function heldFields({ backend, create }: Pick<SandboxRecord, "backend" | "create">): NetworkFields {
  const { inbound_cidr_allowlist: inbound, ...others } = create;
  return backend === "cloudflare" || inbound === undefined ? others : create;
}

function isSamePolicy(one: NetworkFields, other: NetworkFields): boolean {
  return JSON.stringify(networkPolicyOf(one)) === JSON.stringify(networkPolicyOf(other));
}

/** The fields of the patch that its host would have to set rules for. */
function changedFields(before: NetworkFields, patch: NetworkPatch): string[] {
  const given = NETWORK_PATCH_FIELDS.filter((field) => patch[field] !== undefined);
  const isMatter = (field: keyof NetworkPatch) =>
    field !== "inbound_cidr_allowlist" || before.unencrypted_ports?.length;
  const alone = given.filter(
    (field) => isMatter(field) && !isSamePolicy(before, withNetworkPatch(before, { [field]: patch[field] })),
  );
  // Two may be of effect only together.
  return alone.length > 0 ? alone : given;
}

/** What the host cannot do is refused in the name of what was asked for. */
async function inNameOf(fields: readonly string[], ask: () => Promise<void>): Promise<void> {
  try {
    await ask();
  } catch (error) {
    const known = asApiError(error);
    if (known?.code !== "unsupported_by_backend") throw error;
    const message = known.errors?.[0]?.message ?? known.message;
    throw unsupported(fields.map((path) => ({ path, message })));
  }
}
