import type { Readable } from "node:stream";

/** What the engine answered instead of a result. `status` is absent when it did not answer at all. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly status: number | undefined;

  constructor(message: string, status: number | undefined, cause: unknown) {
    super(message, { cause });
    this.status = status;
  }
}

/** dockerode's errors as ours: its message is `(HTTP code 404) no such container - <the engine's own words> `. */
export function engineError(error: unknown): EngineError {
  const { statusCode, json, message } = error as { statusCode?: number; json?: { message?: string }; message?: string };
  const words = json?.message ?? (message ?? String(error)).replace(/^\(HTTP code \d+\)[^-]*- /, "");
  return new EngineError(words.trim(), statusCode, error);
}

/** Reads a stream of JSON lines to its end; the last `error` in it rejects. */
export async function progressEnd(stream: NodeJS.ReadableStream): Promise<void> {
  let rest = "";
  let failure: string | undefined;
  const note = (line: string) => {
    failure = /^\s*\{.*"error"\s*:/.test(line) ? ((JSON.parse(line) as { error?: string }).error ?? failure) : failure;
  };
  for await (const chunk of (stream as Readable).setEncoding("utf8")) {
    const lines = (rest + (chunk as string)).split("\n");
    rest = lines.pop() ?? "";
    lines.forEach(note);
  }
  note(rest);
  if (failure !== undefined) throw new EngineError(failure, 500, undefined);
}
