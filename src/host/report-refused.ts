import { z } from "zod";

const MAX_DETAIL_CHARACTERS = 500;
const ProblemSchema = z.object({ detail: z.string() });

/** What the control plane answers instead of orders. */
export class ReportRefused extends Error {
  override readonly name = "ReportRefused";
  readonly status: number;

  constructor(status: number, detail: string | undefined) {
    super(`it answers ${status}${detail ? `: ${detail}` : ""}`);
    this.status = status;
  }
}

/** Reads the problem of an answer, where it is one. */
export async function refusal(response: Response): Promise<ReportRefused> {
  const problem = await response.json().catch(() => undefined);
  const { data } = ProblemSchema.safeParse(problem);
  return new ReportRefused(response.status, data?.detail.slice(0, MAX_DETAIL_CHARACTERS));
}

/** Why a report did not arrive, on one line. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? error.cause : undefined;
  return cause && "code" in cause ? `${error.message} (${String(cause.code)})` : error.message;
}
