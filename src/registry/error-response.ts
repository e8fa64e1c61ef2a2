import { platformFailure } from "../rpc/platform-failure.ts";
import { RegistryError, REFUSALS } from "./errors.ts";

/** Engines wait by themselves where they are told nothing; those that listen need not be told more. */
const RETRY_AFTER_S = "2";

/** Any error as the answer to a client: the one place that formats the registry's errors. `HEAD` is answered without a body. */
export function errorResponse(thrown: unknown, isHead: boolean): Response {
  const error = classify(thrown);
  const { code, status } = REFUSALS[error.refusal];
  // A refusal says all there is to it; of a bucket that fails it was said there.
  if (error !== thrown) console.error("The registry could not answer.", thrown);
  const headers = new Headers({ "content-type": "application/json", ...error.headers });
  if (status === 401) headers.set("www-authenticate", 'Basic realm="sandbar"');
  if (status === 429 || status === 503) headers.set("retry-after", RETRY_AFTER_S);
  const body = { errors: [{ code, message: error.message, ...(error.detail && { detail: error.detail }) }] };
  return new Response(isHead ? null : JSON.stringify(body), { status, headers });
}

function classify(error: unknown): RegistryError {
  if (error instanceof RegistryError) return error;
  switch (platformFailure(error)) {
    case "catalog":
      return new RegistryError("UNAVAILABLE", { message: "The catalog of keys does not answer. Try again." });
    case "overloaded":
      return new RegistryError("TOOMANYREQUESTS", { cause: error });
    case "moved":
      return new RegistryError("UNAVAILABLE", { cause: error });
    case undefined:
      return new RegistryError("INTERNAL", { cause: error });
  }
}
