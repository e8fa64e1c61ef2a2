import type { z } from "zod";
import { ApiError, type FieldError } from "./errors.ts";

interface Issue {
  code?: string | undefined;
  /** Of a type that is not the right one. */
  expected?: string;
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

/** What zod says of a union whose schema says nothing. */
const NO_WORDS_OF_ITS_OWN = "Invalid input";

function fieldErrors(issue: Issue, parent: PropertyKey[]): FieldError[] {
  const path = [...parent, ...issue.path];
  if (issue.code === "unrecognized_keys") {
    return (issue.keys ?? []).map((key) => ({ path: dotted([...path, key]), message: "is not a known field" }));
  }
  const branches = (issue.errors ?? []).toSorted((a, b) => strangers(a) - strangers(b) || a.length - b.length);
  if (issue.code === "invalid_union" && issue.message === NO_WORDS_OF_ITS_OWN && branches[0]?.length) {
    const expected = branches.map(expectedType);
    if (expected.every((type) => type !== undefined)) {
      const types = [...new Set(expected)].join(" or ");
      const message = branches[0][0]!.message.replace(/expected \w+/, `expected ${types}`);
      return [{ path: dotted(path), message }];
    }
    return branches[0].flatMap((inner) => fieldErrors(inner, path));
  }
  const why = issue.code === "invalid_key" ? issue.issues?.[0] : undefined;
  return [{ path: dotted(path), message: (why ?? issue).message }];
}

/** How many of the fields a branch of a union does not know at all: it is hardly the one that was meant. */
const strangers = (branch: Issue[]) =>
  branch.filter(({ code, path }) => code === "unrecognized_keys" && path.length === 0).length;

/** The type that a branch of a union wants, where the value is of another altogether. */
function expectedType([first, ...others]: Issue[]): string | undefined {
  if (others.length > 0 || first?.code !== "invalid_type" || first.path.length > 0) return undefined;
  return first.expected === "record" ? "object" : first.expected;
}

const dotted = (path: PropertyKey[]) => path.map(String).join(".");
