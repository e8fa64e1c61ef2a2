import type { Context } from "hono";
import { IdempotencyCatalog } from "../catalog/idempotency.ts";
import { ApiError, asApiError, ERRORS } from "../contract/errors.ts";
import { sha256Hex } from "../auth/digest.ts";
import type { ApiEnv } from "./env.ts";
import { openSealed, seal } from "./sealed.ts";

/** How a create is run. `isFirst` is false where another request with the same key may have made it already. */
type Run<Plan, Answer> = (plan: Plan, isFirst: boolean) => Promise<Answer>;

/**
 * Runs a create once per `Idempotency-Key`. What it decides by chance, such as the id of what it makes, is its plan, which is
 * kept before anything is made: the same key with the same body goes by the same plan, at the same time or after a crash in
 * the middle, and so `run` must find what its plan has made already. The first answer is given again; another body is a
 * conflict; a request that is refused gives its key back. Without a key it just runs.
 *
 * Plans and answers are kept encrypted, since some of them (a new API key) are shown only once.
 */
export async function idempotent<Plan, Answer>(
  c: Context<ApiEnv>,
  request: unknown,
  newPlan: () => Plan,
  run: Run<Plan, Answer>,
): Promise<Answer> {
  const key = c.req.header("idempotency-key");
  if (key === undefined) return run(newPlan(), true);
  const secret = c.env.SIGNING_SECRET;
  const catalog = new IdempotencyCatalog(c.env.DB);
  const use = {
    environment: c.get("principal").environment,
    operation: `${c.req.method} ${c.req.path}`,
    key,
    requestHash: await sha256Hex(JSON.stringify(request)),
  };
  const begun = await catalog.begin(use, await seal(secret, JSON.stringify(newPlan())), Date.now());
  if (begun.kind === "conflict") throw new ApiError("idempotency_conflict");
  if (begun.kind === "answered") return JSON.parse(await openSealed(secret, begun.answer)) as Answer;
  const plan = JSON.parse(await openSealed(secret, begun.plan)) as Plan;
  let answer: Answer;
  try {
    answer = await run(plan, begun.isFirst);
  } catch (error) {
    if (isRefusal(error)) await catalog.abandon(use).catch(() => undefined);
    throw error;
  }
  try {
    const kept = await catalog.complete(use, await seal(secret, JSON.stringify(answer)), Date.now());
    return JSON.parse(await openSealed(secret, kept)) as Answer;
  } catch (error) {
    // What was made is made: the client hears of it even when the answer cannot be kept.
    console.error(`The answer to ${use.operation} could not be kept for its idempotency key.`, error);
    return answer;
  }
}

/** True where the request itself was the matter, and nothing was made. */
function isRefusal(error: unknown): boolean {
  const known = asApiError(error);
  return known !== undefined && ERRORS[known.code].status < 500;
}
