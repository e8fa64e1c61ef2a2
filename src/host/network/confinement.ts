import { closeSync } from "node:fs";
import type { NetworkPolicy } from "../../contract/network.ts";
import type { Container, Egress } from "../runtime.ts";
import { unavailable } from "../time-limit.ts";
import type { Forbidden } from "./forbidden.ts";
import { endForbidden } from "./forbidden-connections.ts";
import { Gate } from "./gate.ts";
import { HeaderInterceptor } from "./interceptor.ts";
import type { Authority } from "./authority.ts";
import type { Names } from "./names.ts";
import { setRules } from "./nft.ts";
import { needsGate, needsRules, NO_RULES, rulesOf } from "./rules.ts";
import { installTrust } from "./trust.ts";

export interface ConfinementOptions {
  egress: Egress;
  names: Names;
  forbidden: Forbidden;
}

/** The network of one container, as it is held to a policy. One call at a time; only `close` may come between. */
export class Confinement {
  readonly #container: Container;
  readonly #options: ConfinementOptions;
  readonly #authority: Authority | undefined;
  #gate: Gate | undefined;
  #interceptor: HeaderInterceptor | undefined;
  #isClosed = false;

  /** `authority`: whom its programs trust, where something is added to their requests. */
  constructor(container: Container, options: ConfinementOptions, authority: Authority | undefined) {
    this.#container = container;
    this.#options = options;
    this.#authority = authority;
  }

  /**
   * Holds it to the policy from now on. `hasRun`: something may be connected already, and what is forbidden now is cut. Throws
   * `sandbox_ended`; where it throws, what held before may hold still.
   */
  async apply(policy: NetworkPolicy, { hasRun }: { hasRun: boolean }): Promise<void> {
    const { egress, forbidden } = this.#options;
    const rawPorts = rawPortsOf(this.#container);
    const needsAny = needsRules(policy, { egress, rawPorts });
    if (!needsAny && !hasRun) return;
    if (this.#authority && !hasRun) await installTrust(this.#container, this.#authority.certificate);
    const namespace = this.#container.openNetwork?.();
    if (namespace === undefined) throw unavailable("The sandbox's network is out of reach.", undefined);
    try {
      const gate = needsGate(policy, egress) ? this.#openGate(namespace, policy) : undefined;
      const wiring = { egress, gate: gate?.ports, rawPorts, forbidden: forbidden.ranges() };
      const rules = needsAny ? rulesOf(policy, wiring) : "";
      // To take away what is not there would make the kernel wait for some milliseconds.
      await setRules(hasRun ? NO_RULES + rules : rules, namespace);
      gate?.setPolicy(policy);
      if (!gate) this.#closeGate();
      if (hasRun && egress === "routed") endForbidden(namespace, policy, wiring);
    } finally {
      closeSync(namespace);
      if (this.#isClosed) this.#closeGate();
    }
  }

  /** The container has gone. */
  close(): void {
    this.#isClosed = true;
    this.#closeGate();
    this.#interceptor?.close();
    this.#interceptor = undefined;
  }

  #openGate(namespace: number, policy: NetworkPolicy): Gate {
    const { names, forbidden } = this.#options;
    const { headers = [] } = policy;
    if (this.#authority) this.#interceptor ??= new HeaderInterceptor(headers, this.#authority, { names, forbidden });
    this.#interceptor?.setHeaders(headers);
    this.#gate ??= Gate.open({ namespace, policy, forbidden, names, interceptor: this.#interceptor });
    return this.#gate;
  }

  #closeGate(): void {
    this.#gate?.close();
    this.#gate = undefined;
  }
}

/** Those of its ports that the machine publishes. */
export const rawPortsOf = ({ publishedPorts }: Pick<Container, "publishedPorts">) =>
  Object.keys(publishedPorts).map(Number);
