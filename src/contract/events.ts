import { z } from "zod";
import { PROCESS_FINISH_REASONS, type OutputStream } from "./process.ts";

/**
 * The event stream of a process. `id` is the cursor behind the event, `<stdout offset>.<stderr offset>`; sent back as
 * `Last-Event-ID` it resumes right there.
 *
 * | event              | data |
 * | ------------------ | ---- |
 * | `process`          | the ContainerProcess; first, of an exec's own stream only, without `id` |
 * | `stdout`, `stderr` | `{"offset", "data"}`: bytes in base64, and the offset of the first |
 * | `exit`             | {@link ExitEventSchema}; the last |
 * | `error`            | a problem document; the last. `output_expired`: the reader was too slow |
 *
 * A comment comes every 15 s. A stream that ends without `exit` or `error` was cut: the process goes on.
 */
export const ExitEventSchema = z.object({
  returncode: z.int(),
  timed_out: z.boolean(),
  signal: z.string().optional(),
  finish_reason: z.enum(PROCESS_FINISH_REASONS),
  exited_at: z.iso.datetime().optional(),
  stdout_bytes: z.int(),
  stderr_bytes: z.int(),
});
export type ExitEvent = z.infer<typeof ExitEventSchema>;

export type Cursor = Record<OutputStream, number>;

export const formatCursor = ({ stdout, stderr }: Cursor): string => `${stdout}.${stderr}`;

export function parseCursor(text: string): Cursor | undefined {
  const match = /^(\d{1,15})\.(\d{1,15})$/.exec(text.trim());
  return match ? { stdout: Number(match[1]), stderr: Number(match[2]) } : undefined;
}

/** One event as it stands in the stream. `data` is JSON, which holds no line break. */
export function formatEvent(event: string, data: unknown, id?: Cursor | number): string {
  const idLine = id === undefined ? "" : `id: ${typeof id === "number" ? id : formatCursor(id)}\n`;
  return `${idLine}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
