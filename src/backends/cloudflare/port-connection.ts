import { ApiError } from "../../contract/errors.ts";

/** The answer of a port on its way out, untouched: `done` is called once its body has passed. */
export function untilPassed(response: Response, done: () => void): Response {
  if (!response.body) {
    done();
    return response;
  }
  const length = response.headers.get("content-length");
  const { readable, writable } =
    length === null ? new IdentityTransformStream() : new FixedLengthStream(BigInt(length));
  void response.body
    .pipeTo(writable)
    .catch(() => undefined)
    .finally(done);
  // The body is as it came, compressed or not.
  return new Response(readable, { status: response.status, headers: response.headers, encodeBody: "manual" });
}

/** Whatever keeps the platform from connecting, for who called the port. */
export function portUnreachable(port: number, cause: unknown): ApiError {
  return new ApiError("port_unreachable", { detail: `Nothing in the sandbox answers on port ${port}.`, cause });
}
