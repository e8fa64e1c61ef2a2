import { ApiError, asApiError, type ApiErrorOptions, type ErrorCode } from "../contract/errors.ts";

/**
 * What the object answers over RPC. An error that a client caused is a value here: thrown across RPC it
 * would count, and be logged, as a failure of the object.
 */
export type Reply<T> = { ok: true; value: T } | { ok: false; code: ErrorCode; options: ApiErrorOptions };

/** An interface of plain methods as its replies. */
export type Replies<Methods> = {
  [Name in keyof Methods]: Methods[Name] extends (...args: infer Args) => Promise<infer Value>
    ? (...args: Args) => Promise<Reply<Value>>
    : never;
};

/** Runs and replies; what is not an `ApiError` is thrown on. */
export async function replyWith<T>(run: () => Promise<T>): Promise<Reply<T>> {
  try {
    return { ok: true, value: await run() };
  } catch (error) {
    const known = asApiError(error);
    if (!known) throw error;
    const { code, detail, errors, retryAfter, extra } = known;
    return {
      ok: false,
      code,
      options: {
        ...(detail !== undefined && { detail }),
        ...(errors && { errors }),
        ...(retryAfter !== undefined && { retryAfter }),
        ...(extra && { extra }),
      },
    };
  }
}

/** The methods behind their replies: values are returned and errors thrown again. */
export function unwrapReplies<Methods extends object>(stub: Replies<Methods>): Methods {
  return new Proxy(stub, {
    get: (target, name) => {
      return async (...args: unknown[]) => {
        // Called on the stub itself: of an RPC method everything else, `apply` too, would be asked of the object.
        const methods = target as Record<PropertyKey, (...args: unknown[]) => Promise<Reply<unknown>>>;
        const reply = await methods[name]!(...args);
        if (!reply.ok) throw new ApiError(reply.code, reply.options);
        return reply.value;
      };
    },
  }) as unknown as Methods;
}
