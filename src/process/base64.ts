/** Bytes as base64, by the fastest way that a platform has. */
export type ToBase64 = (bytes: Uint8Array) => string;
