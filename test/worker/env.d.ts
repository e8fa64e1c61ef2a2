import type { D1Migration } from "@cloudflare/vitest-plugin";
import type { Env as WorkerEnv } from "../../src/api/env.ts";

declare global {
  namespace Cloudflare {
    interface Env extends WorkerEnv {
      MIGRATIONS: D1Migration[];
    }
    /** Types `exports` of `cloudflare:workers`. */
    interface GlobalProps {
      mainModule: typeof import("./worker.ts");
    }
  }
}
