import { DurableObject } from "cloudflare:workers";
import type { OpenBackend } from "../backends/index.ts";
import { limitsOf, type LimitVariables } from "../contract/limits.ts";
import { replyWith, type Reply } from "../rpc/api-reply.ts";
import { openerOf } from "./open-backends.ts";
import { Parts, type PartsEnv } from "./parts.ts";
import type { Scope } from "./rpc.ts";

export interface SandboxEnv extends LimitVariables, PartsEnv {}

/** What the calls to a sandbox's object are made with: its parts, and how a call reaches them. */
export abstract class SandboxObject<Env extends SandboxEnv = SandboxEnv> extends DurableObject<Env> {
  protected readonly parts: Parts;

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.parts = new Parts(ctx, env, limitsOf(env), () => this.backends());
  }

  /** How backends are opened; a test's subclass puts its fake here. */
  protected backends(): OpenBackend {
    return openerOf(this.ctx, this.env.SIGNING_SECRET, () => this.parts);
  }

  /** Asks something that is no activity of the sandbox. */
  protected reading<T>(scope: Scope, run: () => Promise<T>): Promise<Reply<T>> {
    return replyWith(async () => {
      this.parts.operations.record(scope);
      return run();
    });
  }

  /** Does something with the container, which counts as activity until it is done. */
  protected operation<T>(scope: Scope, run: () => Promise<T>): Promise<Reply<T>> {
    return replyWith(() => this.parts.operations.run(scope, run));
  }
}
