import { ApiError } from "../contract/errors.ts";
import type { BackendName } from "../contract/sandbox.ts";

/** Throws `image_elsewhere` of an image that was made on another backend than it is to start on. */
export function requireMadeFor(made: BackendName, wanted: BackendName): void {
  if (made === wanted) return;
  throw new ApiError("image_elsewhere", {
    detail: `The image is for the backend ${made}; it does not start on ${wanted}.`,
  });
}
