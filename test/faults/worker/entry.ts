import type { Env } from "../../../src/api/env.ts";
import worker, {
  Placement as RealPlacement,
  Registry as RealRegistry,
  Sandbox as RealSandbox,
  Volume as RealVolume,
} from "../../../src/index.ts";
import { D1_MODE_PATH, type D1ModeAnswer, type D1Switch } from "../d1-mode.ts";
import { FaultyD1 } from "./faulty-d1.ts";

/** One for the Worker and its objects: they share an isolate. */
const catalog = new FaultyD1();

/** The real objects on the catalog that can fail. */
export class Sandbox extends RealSandbox<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, { ...env, DB: catalog.wrap(env.DB) });
  }
}

export class Registry extends RealRegistry<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, { ...env, DB: catalog.wrap(env.DB) });
  }
}

export class Placement extends RealPlacement {}

export class Volume extends RealVolume<Env> {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, { ...env, DB: catalog.wrap(env.DB) });
  }
}

/** The real Worker on the catalog that can fail, and the switch for that. */
export default {
  async fetch(request, env, ctx) {
    if (new URL(request.url).pathname !== D1_MODE_PATH)
      return worker.fetch(request, { ...env, DB: catalog.wrap(env.DB) }, ctx);
    const { turn, mode } = await request.json<D1Switch>();
    const { hits } = catalog;
    if (turn > catalog.turn) Object.assign(catalog, { turn, mode, hits: 0 });
    return Response.json({ hits } satisfies D1ModeAnswer);
  },
} satisfies ExportedHandler<Env>;
