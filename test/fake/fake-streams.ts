import { asApiError } from "../../src/contract/errors.ts";
import { formatEvent, type Cursor } from "../../src/contract/events.ts";
import { toProblem } from "../../src/contract/problem.ts";
import { OUTPUT_STREAMS, signalOfReturncode, type OutputStream } from "../../src/contract/process.ts";
import { base64Of, type FakeProcess } from "./fake-process.ts";
import { until } from "./until.ts";

/** The bytes of one stream. Throws `output_expired` when they are not kept. */
export function outputOf(process: FakeProcess, stream: OutputStream, from: number, follow: boolean) {
  const log = process[stream];
  log.from(from);
  const end = follow ? Infinity : log.length;
  let offset = from;
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const isOver = () => process.tick().returncode !== null;
      if (follow) await until(() => isOver() || log.length > offset);
      const bytes = offset < end ? log.from(offset).slice(0, end - offset) : new Uint8Array(0);
      offset += bytes.length;
      if (bytes.length > 0) controller.enqueue(bytes);
      if (offset >= end || (bytes.length === 0 && isOver())) close(controller);
    },
  });
}

/** Both outputs and the end as the text of an event stream. */
export function eventsOf(process: FakeProcess, from: Cursor) {
  for (const stream of OUTPUT_STREAMS) process[stream].from(from[stream]);
  const cursor = { ...from };
  const encoder = new TextEncoder();
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const news = () => OUTPUT_STREAMS.filter((stream) => process[stream].length > cursor[stream]);
      await until(() => process.tick().returncode !== null || news().length > 0);
      let text = "";
      try {
        for (const stream of news()) {
          const offset = cursor[stream];
          const bytes = process[stream].from(offset).slice(0, 30_000);
          cursor[stream] += bytes.length;
          text += formatEvent(stream, { offset, data: base64Of(bytes) }, cursor);
        }
      } catch (error) {
        controller.enqueue(encoder.encode(formatEvent("error", toProblem(asApiError(error)!))));
        return close(controller);
      }
      const isOver = text === "" && process.returncode !== null;
      controller.enqueue(encoder.encode(isOver ? formatEvent("exit", endOf(process), cursor) : text));
      if (isOver) close(controller);
    },
  });
}

/** How the process ended, as events and sockets tell. */
export function endOf(process: FakeProcess) {
  const returncode = process.returncode!;
  const signal = signalOfReturncode(returncode);
  return {
    returncode,
    timed_out: process.timedOut,
    ...(signal && { signal }),
    finish_reason: process.finishReason!,
    exited_at: new Date(process.exitedAt!).toISOString(),
    stdout_bytes: process.stdout.length,
    stderr_bytes: process.stderr.length,
  };
}

/** A byte stream's reader that waits is let go only so. */
export function close(controller: ReadableByteStreamController): void {
  controller.close();
  controller.byobRequest?.respond(0);
}
