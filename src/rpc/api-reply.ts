import { ApiError, asApiError, type ApiErrorOptions, type ErrorCode } from "../contract/errors.ts";
import * as rpc from "./replies.ts";

interface Failure {
  code: ErrorCode;
  options: ApiErrorOptions;
}

/** What objects answer over RPC whose errors are those of the API: see `replies.ts`. */
export type Reply<T> = rpc.Reply<T, Failure>;
export type Replies<Methods> = rpc.Replies<Methods, Failure>;

/** Runs and replies; what is not an `ApiError` is thrown on. */
export const replyWith = <T>(run: () => Promise<T>): Promise<Reply<T>> => rpc.replyWith(run, failureOf);

export const unwrapReplies = <Methods extends object>(stub: Replies<Methods>): Methods =>
  rpc.unwrapReplies(stub, ({ code, options }) => new ApiError(code, options));

function failureOf(error: unknown): Failure | undefined {
  const known = asApiError(error);
  if (!known) return undefined;
  const { code, detail, errors, retryAfter, extra } = known;
  return {
    code,
    options: {
      ...(detail !== undefined && { detail }),
      ...(errors && { errors }),
      ...(retryAfter !== undefined && { retryAfter }),
      ...(extra && { extra }),
    },
  };
}
