import type { z } from "@hono/zod-openapi";
import { ProblemSchema } from "../contract/problem.ts";

/** A JSON answer of a route. */
export const json = <Schema extends z.ZodType>(description: string, schema: Schema) => ({
  description,
  content: { "application/json": { schema } },
});

/** The answer of every route when something is wrong. */
export const problem = {
  default: {
    description: "What went wrong (RFC 9457).",
    content: { "application/problem+json": { schema: ProblemSchema } },
  },
};

/** A JSON body of a route. */
export const jsonBody = <Schema extends z.ZodType>(schema: Schema) => ({
  required: true as const,
  content: { "application/json": { schema } },
});
