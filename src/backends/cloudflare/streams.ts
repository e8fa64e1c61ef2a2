import type { LogReader } from "../../process/log-reader.ts";
import { closeByteStream } from "./byte-stream.ts";
import type { ProcessEvents } from "../../process/process-events.ts";

/** What a reader finds, as a stream. One that is cancelled may be back: its place is kept. */
export const streamOfLog = (reader: LogReader): ReadableStream<Uint8Array> => streamOf(reader);

export const streamOfEvents = (events: ProcessEvents): ReadableStream<Uint8Array> => streamOfText(events);

/** Texts as they come. */
export function streamOfText(events: {
  next(): Promise<string | undefined>;
  close(isCut?: boolean): void;
}): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  return streamOf({
    next: async () => {
      const text = await events.next();
      return text === undefined ? undefined : encoder.encode(text);
    },
    close: (isCut) => events.close(isCut),
  });
}

/** RPC carries streams of bytes only. */
function streamOf(source: {
  next(): Promise<Uint8Array | undefined>;
  close(isCut?: boolean): void;
}): ReadableStream<Uint8Array> {
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const bytes = await source.next();
      // A copy: what is enqueued is given away.
      if (bytes) return controller.enqueue(bytes.slice());
      source.close();
      closeByteStream(controller);
    },
    cancel: () => source.close(true),
  });
}
