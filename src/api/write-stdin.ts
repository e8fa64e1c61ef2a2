import type { StdinOptions } from "../backends/backend.ts";
import type { StdinState } from "../contract/process.ts";

type Write = (body: ReadableStream<Uint8Array>, options: StdinOptions) => Promise<StdinState>;

/**
 * Writes the body and ends the input behind it. A body that breaks off can look, further on, as if it had ended well: the
 * end is told by itself, once the body was read to its own end here, so that a cut upload never ends the input.
 */
export async function writeStdin(
  write: Write,
  body: ReadableStream<Uint8Array> | null,
  { offset, eof }: StdinOptions,
): Promise<StdinState> {
  if (!body) return write(emptyStream(), { offset, eof });
  if (!eof) return write(body, { offset, eof });
  const { readable, writable } = new IdentityTransformStream();
  const read = body.pipeTo(writable);
  read.catch(() => undefined);
  const state = await write(readable, { offset, eof: false });
  await read;
  return write(emptyStream(), { offset: state.offset, eof: true });
}

/** RPC carries streams of bytes only. */
export function emptyStream(): ReadableStream<Uint8Array> {
  return new ReadableStream({ type: "bytes", start: (controller) => controller.close() });
}
