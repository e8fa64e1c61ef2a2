/** Headers of content that is a sandbox's own: it must not be taken for a page of ours. */
export const SANDBOX_CONTENT = {
  "content-type": "application/octet-stream",
  "x-content-type-options": "nosniff",
  "content-security-policy": "sandbox",
} as const;

/** Bytes as they stream; for HEAD the headers alone. */
export function bytesResponse(body: ReadableStream<Uint8Array>, isHead: boolean, headers: HeadersInit): Response {
  if (isHead) void body.cancel().catch(() => undefined);
  return new Response(isHead ? null : body, { headers });
}
