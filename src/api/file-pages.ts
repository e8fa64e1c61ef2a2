import { base64url } from "jose";
import { z } from "zod";
import { ApiError } from "../contract/errors.ts";
import {
  FileListRequestSchema,
  FileQuerySchema,
  MAX_LIST_DEPTH,
  type FileList,
  type FileListRequest,
} from "../contract/file.ts";

const { after: AfterSchema, depth, limit } = FileListRequestSchema.shape;

const MAX_CURSOR_CHARACTERS = 12_000;

/** The query of a list of files, whose cursor holds the path that the next page goes on behind. */
export const FileListQuerySchema = z.strictObject({
  path: FileQuerySchema.shape.path,
  depth: depth.meta({ description: `How many levels down, at most ${MAX_LIST_DEPTH}.` }),
  limit,
  cursor: z
    .string()
    .max(MAX_CURSOR_CHARACTERS)
    .optional()
    .meta({ description: "The `next_cursor` of the page before." }),
});

/** Throws `invalid_request` for a cursor that no list has given. */
export function listRequestOf({ cursor, depth, limit }: z.output<typeof FileListQuerySchema>): FileListRequest {
  return { depth, limit, ...(cursor !== undefined && { after: pathOf(cursor) }) };
}

export function pageOf({ data, more }: FileList) {
  const last = data.at(-1);
  return { data, ...(more && last && { next_cursor: base64url.encode(last.path) }) };
}

function pathOf(cursor: string): string {
  const path = decoded(cursor);
  if (path?.startsWith("/") && !path.includes("\0") && AfterSchema.safeParse(path).success) return path;
  throw new ApiError("invalid_request", {
    detail: "The cursor is not one that a list has given.",
    errors: [{ path: "cursor", message: "must be the next_cursor of a page" }],
  });
}

function decoded(cursor: string): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(base64url.decode(cursor));
  } catch {
    return undefined;
  }
}
