import type { z } from "zod";
import { ApiError } from "../contract/errors.ts";
import { invalidRequest } from "../contract/invalid-request.ts";
import { MAX_PACK_BYTES, MAX_SYNC_JSON_BYTES } from "../contract/volume-sync.ts";

/** The JSON body of a call. */
export async function readJson<Schema extends z.ZodType>(request: Request, schema: Schema): Promise<z.output<Schema>> {
  const parsed = schema.safeParse(parse(await readText(request)));
  if (!parsed.success) throw invalidRequest(parsed.error, "body");
  return parsed.data;
}

/** The bytes of a pack, as they stream, and how many there are: one that breaks off before is an error of the stream. */
export function readPack(request: Request): { body: ReadableStream<Uint8Array>; size: number } {
  const length = request.headers.get("content-length") ?? "";
  if (!/^\d{1,15}$/.test(length) || !request.body)
    throw new ApiError("invalid_request", { detail: "The request needs a body, and a content-length." });
  const size = Number(length);
  if (size > MAX_PACK_BYTES)
    throw new ApiError("payload_too_large", { detail: `A pack is at most ${MAX_PACK_BYTES} bytes long.` });
  const { readable, writable } = new FixedLengthStream(size);
  // Broken off here, it breaks off there: whoever reads it answers for both.
  request.body.pipeTo(writable).catch(() => undefined);
  return { body: readable, size };
}

async function readText({ body }: Request): Promise<string> {
  const decoder = new TextDecoder();
  const texts: string[] = [];
  let size = 0;
  for await (const bytes of body ?? []) {
    size += bytes.length;
    if (size > MAX_SYNC_JSON_BYTES)
      throw new ApiError("payload_too_large", { detail: `A JSON body is at most ${MAX_SYNC_JSON_BYTES} bytes long.` });
    texts.push(decoder.decode(bytes, { stream: true }));
  }
  return texts.join("") + decoder.decode();
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError("invalid_request", { detail: "The body is not JSON." });
  }
}
