import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { convertV4MiniflareOptions, Log, LogLevel, Miniflare, MiniflareCoreError } from "miniflare";
import { unstable_getMiniflareWorkerOptions, unstable_readConfig } from "wrangler";

/**
 * The Worker in one workerd, with D1, R2 and Durable Objects on the disk: what `wrangler dev` runs, at the same place and with the
 * configuration of `wrangler.toml`, but reached without the second workerd that stands before it there, which costs each request
 * two milliseconds and each byte more than the Worker itself.
 *
 *   --config FILE      wrangler.toml
 *   --bundle DIR       what `wrangler deploy --dry-run --outdir DIR` made
 *   --persist-to DIR   as of `wrangler dev`
 *   --env-file FILE    further bindings, one `NAME=value` a line
 *   --port N           where it answers, on 127.0.0.1
 */
const { values } = parseArgs({
  options: {
    config: { type: "string" },
    bundle: { type: "string" },
    "persist-to": { type: "string" },
    "env-file": { type: "string" },
    port: { type: "string" },
  },
});
const given = (name: keyof typeof values): string => {
  const value = values[name];
  if (value === undefined) throw new Error(`--${name} is missing.`);
  return value;
};
const HOST = "127.0.0.1";
/** Where the entry of `wrangler deploy --dry-run` is. */
const ENTRY = "index.js";

/** A workerd that dies is started again by Miniflare; where that fails, whoever started this process has to start all of it again. */
class EndingLog extends Log {
  override error(error: Error): void {
    super.error(error);
    if (error instanceof MiniflareCoreError && error.code === "ERR_RUNTIME_FAILURE") process.exit(1);
  }
}

// No `.env` or `.dev.vars` that lies about, as with the option of that name.
const sources = { envFiles: [given("env-file")], overrides: { enableContainers: false } };
const config = unstable_readConfig({ config: given("config") });
const { workerOptions } = unstable_getMiniflareWorkerOptions(config, undefined, sources);
// What comes as a bundle needs no rules for its modules.
const { modulesRules: _, ...options } = workerOptions;
const modulesRoot = given("bundle");
const entry = join(modulesRoot, ENTRY);
const miniflare = new Miniflare(
  convertV4MiniflareOptions({
    log: new EndingLog(LogLevel.WARN),
    handleStructuredLogs: ({ level, message }) => {
      if (level === "warn" || level === "error") console.error(message);
    },
    // Else each start asks the network for a `request.cf` that nothing here reads.
    cf: false,
    // Miniflare's own entrance cannot be closed. It leads to the Worker, too, and gives an object of the bucket to who knows its key,
    // which has a random part; so it takes any port, and the Worker has a port of its own.
    host: HOST,
    port: 0,
    // It shows and edits D1 without a key.
    unsafeLocalExplorer: false,
    unsafeObservability: false,
    telemetry: { enabled: false },
    resourcePersistencePath: join(given("persist-to"), "v3"),
    workers: [
      {
        ...options,
        name: config.name,
        modulesRoot,
        modules: [{ type: "ESModule", path: entry, contents: readFileSync(entry, "utf8") }],
        unsafeDirectSockets: [{ host: HOST, port: Number(given("port")) }],
      },
    ],
  }),
);

await miniflare.ready;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => void miniflare.dispose().finally(() => process.exit(0)));
}
