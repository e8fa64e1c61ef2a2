/** As much of a controller as every platform's types agree on. */
interface ByteController {
  close(): void;
  byobRequest?: unknown;
}

/** Ends a stream of bytes. A reader that waits with memory of its own is let go only by the second step. */
export function closeByteStream(controller: ByteController): void {
  controller.close();
  const waiting = controller.byobRequest as { respond(bytes: number): void } | null | undefined;
  waiting?.respond(0);
}
