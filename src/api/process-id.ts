import { z } from "@hono/zod-openapi";
import { ApiError } from "../contract/errors.ts";
import { ProcessIdSchema } from "../contract/ids.ts";

/** The path of one process. */
export const ProcessParamsSchema = z.object({ sandbox_id: z.string(), process_id: z.string() });

/** What cannot be a process id names no process. */
export function processIdOf(text: string): string {
  if (!ProcessIdSchema.safeParse(text).success) throw new ApiError("process_not_found");
  return text;
}
