import { z } from "zod";
import { PathSchema } from "../../contract/fields.ts";
import { watchFiles } from "../watch/watch-files.ts";
import { sendEvents } from "./event-stream.ts";
import { FlagSchema, valid } from "./request.ts";
import type { Handler } from "./route.ts";

const WatchQuerySchema = z.object({ path: PathSchema, recursive: FlagSchema.default(false) });

export const watchPath: Handler = async (call, sandboxId) => {
  const { path, recursive } = valid(WatchQuerySchema, Object.fromEntries(call.query));
  await call.host.containers.use(sandboxId!, async (container) => {
    await sendEvents(call, await watchFiles(container, path, recursive));
  });
};
