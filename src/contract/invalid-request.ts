import type { z } from "zod";
import { ApiError, type FieldError } from "./errors.ts";

interface Issue {
  code?: string | undefined;
  path: PropertyKey[];
  message: string;
  keys?: string[];
  errors?: Issue[][];
  /** What is the matter with a key of a record. */
  issues?: Issue[];
}

/** What a schema refused, as the error that a client sees. `where` names the part of the request: `body`, `query`. */
export function invalidRequest(error: z.core.$ZodError, where: string): ApiError {
  const errors = (error.issues as Issue[]).flatMap((issue) => fieldErrors(issue, []));
  return new ApiError("invalid_request", { detail: `The ${where} of the request is not valid.`, errors });
}

function fieldErrors(issue: Issue, parent: PropertyKey[]): FieldError[] {
  const path = [...parent, ...issue.path];
  if (issue.code === "unrecognized_keys") {
    return (issue.keys ?? []).map((key) => ({ path: dotted([...path, key]), message: "is not a known field" }));
  }
  const branches = (issue.errors ?? []).toSorted((a, b) => strangers(a) - strangers(b) || a.length - b.length);
  if (issue.code === "invalid_union" && branches[0]?.length) {
    return branches[0].flatMap((inner) => fieldErrors(inner, path));
  }
  const why = issue.code === "invalid_key" ? issue.issues?.[0] : undefined;
  return [{ path: dotted(path), message: (why ?? issue).message }];
}

/** How many of the fields a branch of a union does not know at all: it is hardly the one that was meant. */
const strangers = (branch: Issue[]) =>
  branch.filter(({ code, path }) => code === "unrecognized_keys" && path.length === 0).length;

const dotted = (path: PropertyKey[]) => path.map(String).join(".");
