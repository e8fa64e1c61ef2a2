import { handle } from "./api/app.ts";
import type { Env } from "./api/env.ts";

export { Placement } from "./placement/placement.ts";
export { Registry } from "./registry/registry.ts";
export { Sandbox } from "./sandbox/sandbox.ts";
export { Volume } from "./volumes/volume.ts";

export default { fetch: handle } satisfies ExportedHandler<Env>;
