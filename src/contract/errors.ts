/**
 * The one table of error codes. `status` is the HTTP status, `title` the RFC 9457 title. A code never
 * changes its meaning; what happened this time is in `detail`.
 */
export const ERRORS = {
  invalid_request: { status: 400, title: "The request is not valid" },
  unauthenticated: { status: 401, title: "Valid credentials are required" },
  forbidden: { status: 403, title: "This is not allowed" },
  not_found: { status: 404, title: "There is no such thing here" },
  sandbox_not_found: { status: 404, title: "There is no such sandbox" },
  process_not_found: { status: 404, title: "There is no such process" },
  image_not_found: { status: 404, title: "There is no such image" },
  file_not_found: { status: 404, title: "There is no such file" },
  volume_not_found: { status: 404, title: "There is no such volume" },
  secret_not_found: { status: 404, title: "There is no such secret" },
  method_not_allowed: { status: 405, title: "The path does not have this method" },
  sandbox_ended: { status: 409, title: "The sandbox has ended" },
  name_taken: { status: 409, title: "A live sandbox of this app has this name" },
  idempotency_conflict: { status: 409, title: "The idempotency key was used with another request" },
  is_a_directory: { status: 409, title: "The path is a directory" },
  not_a_directory: { status: 409, title: "A component of the path is not a directory" },
  file_exists: { status: 409, title: "There is something at the path already" },
  directory_not_empty: { status: 409, title: "The directory is not empty" },
  not_a_file: { status: 409, title: "The path is not a regular file" },
  permission_denied: { status: 409, title: "The sandbox does not permit this" },
  process_ended: { status: 409, title: "The process has ended" },
  stdin_closed: { status: 409, title: "The process takes no more input" },
  stdin_gap: { status: 409, title: "The input does not follow on what the process was given" },
  not_a_terminal: { status: 409, title: "The process has no terminal" },
  image_elsewhere: { status: 409, title: "The image is not where the sandbox can start" },
  image_not_ready: { status: 409, title: "The image cannot be started" },
  conflict: { status: 409, title: "The request conflicts with the present state" },
  output_expired: { status: 410, title: "The output is no longer kept" },
  payload_too_large: { status: 413, title: "The request is too large" },
  unsupported_media_type: { status: 415, title: "The content type is not supported" },
  range_not_satisfiable: { status: 416, title: "The range lies outside of the file" },
  unsupported_by_backend: { status: 422, title: "The backend cannot do this" },
  exec_failed: { status: 422, title: "The process could not be started" },
  rate_limited: { status: 429, title: "Too many requests" },
  internal: { status: 500, title: "Something went wrong on our side" },
  snapshot_failed: { status: 502, title: "The snapshot could not be made" },
  volume_not_stored: { status: 502, title: "What was written to the volume is not durable yet" },
  image_not_stored: { status: 502, title: "The image could not be stored" },
  port_unreachable: { status: 502, title: "Nothing answers on this port of the sandbox" },
  at_capacity: { status: 503, title: "The deployment has no room for more that wait" },
  catalog_unavailable: { status: 503, title: "The catalog does not answer" },
  secrets_unavailable: { status: 503, title: "The secrets cannot be read" },
  backend_unavailable: { status: 503, title: "The sandbox's host does not answer" },
  start_timeout: { status: 503, title: "The sandbox has not started yet" },
  disk_full: { status: 507, title: "The sandbox has no room left" },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** What is the matter with a path, as only the sandbox can tell. */
export const FILE_CODES = [
  "file_not_found",
  "is_a_directory",
  "not_a_directory",
  "file_exists",
  "directory_not_empty",
  "not_a_file",
  "permission_denied",
  "disk_full",
] as const satisfies ErrorCode[];

/** One invalid field: `path` in dotted form (`tags.team`), `message` for a person. */
export interface FieldError {
  path: string;
  message: string;
}

export type ErrorExtra = Record<string, string | number | string[]>;

export interface ApiErrorOptions {
  /** What happened this time, for the person who reads it. Shown to the client. */
  detail?: string;
  errors?: FieldError[];
  /** Seconds after which a retry makes sense; becomes `Retry-After`. */
  retryAfter?: number;
  /** Members added to the problem document, such as `oldest_offset`. */
  extra?: ErrorExtra;
  cause?: unknown;
}

/**
 * An error that a client may see. It crosses RPC and the host protocol by its own properties, so match
 * with {@link asApiError}, never with `instanceof`.
 */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ErrorCode;
  readonly detail: string | undefined;
  readonly errors: FieldError[] | undefined;
  readonly retryAfter: number | undefined;
  readonly extra: ErrorExtra | undefined;

  constructor(code: ErrorCode, options: ApiErrorOptions = {}) {
    super(options.detail ?? ERRORS[code].title, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = options.detail;
    this.errors = options.errors;
    this.retryAfter = options.retryAfter;
    this.extra = options.extra;
  }
}

/** The error as an {@link ApiError} when it is one, also after RPC took its class away. */
export function asApiError(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error;
  if (!(error instanceof Error)) return undefined;
  const code = (error as Partial<ApiError>).code;
  if (typeof code !== "string" || !Object.hasOwn(ERRORS, code) || !("detail" in error)) return undefined;
  const { detail, errors, retryAfter, extra } = error as ApiError;
  return new ApiError(code as ErrorCode, {
    ...(detail !== undefined && { detail }),
    ...(errors !== undefined && { errors }),
    ...(retryAfter !== undefined && { retryAfter }),
    ...(extra !== undefined && { extra }),
    cause: error,
  });
}

/** True for an {@link ApiError} of this code, also after RPC. */
export function hasCode(error: unknown, code: ErrorCode): boolean {
  return asApiError(error)?.code === code;
}

/** The refusal of one field that a backend cannot honour. */
export function unsupported(path: string, message: string): ApiError {
  return new ApiError("unsupported_by_backend", { detail: `${path}: ${message}.`, errors: [{ path, message }] });
}
