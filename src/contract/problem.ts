import { z } from "zod";
import { ApiError, ERRORS, type ErrorCode } from "./errors.ts";

/** RFC 9457 problem document, the body of every error. */
export const ProblemSchema = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    code: z.enum(Object.keys(ERRORS) as [ErrorCode, ...ErrorCode[]]),
    detail: z.string().optional(),
    request_id: z.string().optional(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .meta({ id: "Problem" });

export type Problem = z.infer<typeof ProblemSchema>;

/** The problem document of an error, without the request's own members. */
export function toProblem(error: ApiError): Problem {
  const { status, title } = ERRORS[error.code];
  return {
    ...error.extra,
    type: `urn:sandbar:problem:${error.code}`,
    title,
    status,
    code: error.code,
    ...(error.detail !== undefined && { detail: error.detail }),
    ...(error.errors && { errors: error.errors }),
  };
}

/** Members that errors add to their documents, besides the common ones. */
const ExtraSchema = z.object({ oldest_offset: z.int(), offset: z.int() }).partial();

/** Reads the error back from a problem document; undefined when the body is none of ours. */
export function fromProblem(body: unknown): ApiError | undefined {
  const parsed = ProblemSchema.safeParse(body);
  if (!parsed.success) return undefined;
  const { code, detail, errors } = parsed.data;
  const extra = ExtraSchema.safeParse(body).data;
  return new ApiError(code, {
    ...(detail !== undefined && { detail }),
    ...(errors && { errors }),
    ...(extra && Object.keys(extra).length > 0 && { extra: extra as Record<string, number> }),
  });
}
