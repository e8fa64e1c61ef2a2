import { z } from "@hono/zod-openapi";

/** `true` or `false` in the query. */
export const FlagSchema = z
  .enum(["true", "false"])
  .transform((flag) => flag === "true")
  .meta({ type: "boolean" });
