import type { Context } from "hono";
import { IdempotencyCatalog } from "../catalog/idempotency.ts";
import { ApiError } from "../contract/errors.ts";
import { sha256Hex } from "./digest.ts";
import type { ApiEnv } from "./env.ts";
import { openSealed, seal } from "./sealed.ts";

/**
 * Runs a create once per `Idempotency-Key`: the same key with the same body gets the first answer again,
 * another body is a conflict. A create that fails gives its key back. Without a key it just runs.
 *
 * Answers are kept encrypted, since some of them (a new API key) are shown only once.
 */
export async function idempotent<Answer>(
  c: Context<ApiEnv>,
  request: unknown,
  run: () => Promise<Answer>,
): Promise<Answer> {
  const key = c.req.header("idempotency-key");
  if (key === undefined) return run();
  const catalog = new IdempotencyCatalog(c.env.DB);
  const use = {
    environment: c.get("principal").environment,
    operation: `${c.req.method} ${c.req.path}`,
    key,
    requestHash: await sha256Hex(JSON.stringify(request)),
  };
  const begun = await catalog.begin(use, Date.now());
  switch (begun.kind) {
    case "replay":
      return JSON.parse(await openSealed(c.env.SIGNING_SECRET, begun.response.body)) as Answer;
    case "conflict":
      throw new ApiError("idempotency_conflict");
    case "running":
      throw new ApiError("conflict", { detail: "The first request with this key is still running.", retryAfter: 1 });
    case "fresh":
      break;
  }
  let answer: Answer;
  try {
    answer = await run();
  } catch (error) {
    await catalog.abandon(use);
    throw error;
  }
  const kept = await seal(c.env.SIGNING_SECRET, JSON.stringify(answer));
  // What was made is made: the client hears of it even when the answer cannot be kept.
  await catalog.complete(use, { status: 200, body: kept }, Date.now()).catch((error: unknown) => {
    console.error(`The answer to ${use.operation} could not be kept for its idempotency key.`, error);
  });
  return answer;
}
