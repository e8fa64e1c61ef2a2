import type { BodyLength } from "../backends/backend.ts";
import { endMarkerBytes, newEndMarker } from "../contract/end-marker.ts";
import { emptyStream } from "./write-stdin.ts";

/** The body of a request, to be stored whole or not at all, and how whoever stores it tells that it came whole. */
export function sentBody(request: Request): { body: ReadableStream<Uint8Array>; length: BodyLength } {
  const body = request.body ?? emptyStream();
  const size = contentLength(request.headers);
  if (size !== undefined) return { body, length: { size } };
  const endMarker = newEndMarker();
  return { body: marked(body, endMarker), length: { endMarker } };
}

/** The body with the marker behind its true end; one that breaks off ends without. Bytes pass natively, never through here. */
function marked(body: ReadableStream<Uint8Array>, endMarker: string): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const pass = async () => {
    await body.pipeTo(writable, { preventClose: true });
    const writer = writable.getWriter();
    await writer.write(endMarkerBytes(endMarker));
    await writer.close();
  };
  // Broken off here, it breaks off there: whoever reads it answers for both.
  pass().catch(() => undefined);
  return readable;
}

/** The length that a request says its body has, in bytes; undefined of one that says none. */
export function contentLength(headers: Headers): number | undefined {
  const header = headers.get("content-length");
  return header !== null && /^\d{1,15}$/.test(header) ? Number(header) : undefined;
}
