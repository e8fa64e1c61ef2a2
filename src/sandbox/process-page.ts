import { ApiError } from "../contract/errors.ts";
import type { Page } from "../contract/list.ts";
import type { ContainerProcess } from "../contract/process.ts";
import { describeProcess } from "./describe.ts";
import type { ProcessRecord } from "./process-record.ts";
import type { Processes } from "./processes.ts";

export interface ProcessPageRequest {
  limit: number;
  cursor?: string | undefined;
}

/** A page of processes. Its cursor is the number of the last one, which stays what it is when others come and go. */
export async function pageOfProcesses(
  processes: Processes,
  sandboxId: string,
  { limit, cursor }: ProcessPageRequest,
): Promise<Page<ContainerProcess>> {
  const rows: { seq: number; process: ProcessRecord }[] = await processes.list(numberOf(cursor), limit + 1);
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    data: page.map(({ process }) => describeProcess(sandboxId, process)),
    ...(rows.length > limit && last && { next_cursor: `p${last.seq.toString(36)}` }),
  };
}

function numberOf(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  const digits = /^p([0-9a-z]{1,10})$/.exec(cursor)?.[1];
  if (digits) return Number.parseInt(digits, 36);
  throw new ApiError("invalid_request", {
    detail: "The cursor is not one that a list has given.",
    errors: [{ path: "cursor", message: "must be the next_cursor of a page" }],
  });
}
