import type { ToBase64 } from "../process/base64.ts";

export const toBase64: ToBase64 = (bytes) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
