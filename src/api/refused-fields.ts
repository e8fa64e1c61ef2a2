import { ApiError, type ErrorCode, type FieldError } from "../contract/errors.ts";

/** The error of fields that are refused, of one at least: its text is that of the first. */
export function fieldsRefused(code: ErrorCode, errors: FieldError[]): ApiError {
  const detail = errors[0] && `${errors[0].path}: ${errors[0].message}.`;
  return new ApiError(code, { ...(detail !== undefined && { detail }), errors });
}
