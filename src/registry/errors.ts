/**
 * Every refusal of the registry: the code of the OCI Distribution Specification that a client sees, the status, and the words
 * where the place that refuses has none of its own.
 */
export const REFUSALS = {
  BLOB_UNKNOWN: { code: "BLOB_UNKNOWN", status: 404, message: "There is no such blob." },
  BLOB_UPLOAD_INVALID: { code: "BLOB_UPLOAD_INVALID", status: 400, message: "The upload is not one." },
  BLOB_UPLOAD_UNKNOWN: { code: "BLOB_UPLOAD_UNKNOWN", status: 404, message: "There is no such upload." },
  /** Somebody else is writing just now. */
  BLOB_UPLOAD_BUSY: { code: "BLOB_UPLOAD_INVALID", status: 416, message: "Another request is writing to this upload." },
  /** Bytes that do not follow those that are there. */
  BLOB_UPLOAD_OUT_OF_ORDER: { code: "BLOB_UPLOAD_INVALID", status: 416, message: "The bytes do not follow." },
  BLOB_TOO_LARGE: { code: "SIZE_INVALID", status: 413, message: "The blob is too large." },
  BLOB_RANGE_INVALID: { code: "UNSUPPORTED", status: 416, message: "The blob has no such bytes." },
  DIGEST_INVALID: { code: "DIGEST_INVALID", status: 400, message: "The digest is not that of the content." },
  MANIFEST_BLOB_UNKNOWN: {
    code: "MANIFEST_BLOB_UNKNOWN",
    status: 404,
    message: "The manifest names what is not there.",
  },
  MANIFEST_INVALID: { code: "MANIFEST_INVALID", status: 400, message: "The manifest is not one." },
  MANIFEST_TYPE_UNSUPPORTED: {
    code: "MANIFEST_INVALID",
    status: 415,
    message: "Manifests of this type are not taken.",
  },
  MANIFEST_TOO_LARGE: { code: "SIZE_INVALID", status: 413, message: "The manifest is too large." },
  MANIFEST_UNKNOWN: { code: "MANIFEST_UNKNOWN", status: 404, message: "There is no such manifest." },
  NAME_INVALID: { code: "NAME_INVALID", status: 400, message: "The name is not one of a repository." },
  NAME_UNKNOWN: { code: "NAME_UNKNOWN", status: 404, message: "There is no such repository." },
  SIZE_INVALID: { code: "SIZE_INVALID", status: 400, message: "The size is not that of the content." },
  UNAUTHORIZED: {
    code: "UNAUTHORIZED",
    status: 401,
    message: "Send an API key, as the password or as a bearer token.",
  },
  DENIED: { code: "DENIED", status: 403, message: "This is not allowed with what you have shown." },
  /** It is there and stays: something refers to it. */
  IN_USE: { code: "UNSUPPORTED", status: 405, message: "Something refers to it." },
  PAGE_INVALID: { code: "UNSUPPORTED", status: 400, message: "`n` must be a whole number." },
  PATH_UNKNOWN: { code: "UNSUPPORTED", status: 404, message: "The registry has nothing at this path." },
  METHOD_UNSUPPORTED: { code: "UNSUPPORTED", status: 405, message: "This path does not take this method." },
  TOOMANYREQUESTS: { code: "TOOMANYREQUESTS", status: 429, message: "The registry gets too many requests." },
  UNAVAILABLE: { code: "UNKNOWN", status: 503, message: "The registry does not answer just now. Try again." },
  INTERNAL: { code: "UNKNOWN", status: 500, message: "Something went wrong in the registry." },
} as const;
export type Refusal = keyof typeof REFUSALS;

export interface RefusalOptions {
  message?: string;
  /** JSON, for programs. */
  detail?: Record<string, unknown>;
  headers?: Record<string, string>;
  cause?: unknown;
}

/** What the registry answers instead of what was asked for. */
export class RegistryError extends Error {
  override readonly name = "RegistryError";
  readonly refusal: Refusal;
  readonly detail: Record<string, unknown> | undefined;
  readonly headers: Record<string, string>;

  constructor(refusal: Refusal, { message, detail, headers = {}, cause }: RefusalOptions = {}) {
    super(message ?? REFUSALS[refusal].message, { cause });
    this.refusal = refusal;
    this.detail = detail;
    this.headers = headers;
  }
}

export const isRefusal = (error: unknown, refusal: Refusal): error is RegistryError =>
  error instanceof RegistryError && error.refusal === refusal;
