const BASE62 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/** 256 bits of randomness in base62. */
const LENGTH = 43;
/** Bytes at or above this are thrown away, so that every character is equally likely. */
const UNBIASED_LIMIT = 256 - (256 % BASE62.length);

/** A new API key: `sk-…`. */
export function newApiKey(): string {
  let random = "";
  while (random.length < LENGTH) {
    for (const byte of crypto.getRandomValues(new Uint8Array(64))) {
      if (byte < UNBIASED_LIMIT && random.length < LENGTH) random += BASE62[byte % BASE62.length];
    }
  }
  return `sk-${random}`;
}
