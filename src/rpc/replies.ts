/**
 * What an object answers over RPC. An error that a client caused is a value here: thrown across RPC it would lose its class, and
 * count, and be logged, as a failure of the object. `Failure` is what there is of it.
 */
export type Reply<T, Failure> = { ok: true; value: T } | ({ ok: false } & Failure);

/** An interface of plain methods as its replies. */
export type Replies<Methods, Failure> = {
  [Name in keyof Methods]: Methods[Name] extends (...args: infer Args) => Promise<infer Value>
    ? (...args: Args) => Promise<Reply<Value, Failure>>
    : never;
};

/** Runs and replies; what is no failure that can be told is thrown on. */
export async function replyWith<T, Failure>(
  run: () => T | Promise<T>,
  failureOf: (error: unknown) => Failure | undefined,
): Promise<Reply<T, Failure>> {
  try {
    return { ok: true, value: await run() };
  } catch (error) {
    const failure = failureOf(error);
    if (!failure) throw error;
    return { ok: false, ...failure };
  }
}

/** The methods behind their replies: values are returned and errors thrown again. */
export function unwrapReplies<Methods extends object, Failure>(
  stub: Replies<Methods, Failure>,
  errorOf: (failure: Failure) => Error,
): Methods {
  return new Proxy(stub, {
    get: (target, name) => {
      return async (...args: unknown[]) => {
        // Called on the stub itself: of an RPC method everything else, `apply` too, would be asked of the object.
        const methods = target as Record<PropertyKey, (...args: unknown[]) => Promise<Reply<unknown, Failure>>>;
        const reply = await methods[name]!(...args);
        if (!reply.ok) throw errorOf(reply);
        return reply.value;
      };
    },
  }) as unknown as Methods;
}
