const encoder = new TextEncoder();

export function sha256(text: string): Promise<ArrayBuffer> {
  return crypto.subtle.digest("SHA-256", encoder.encode(text));
}

export const sha256Hex = async (text: string): Promise<string> => hexOf(await sha256(text));

/** HMAC-SHA-256: without the secret nobody can tell of what text it is, not even by trying. */
export async function hmacHex(secret: string, text: string): Promise<string> {
  const hmac = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", encoder.encode(secret), hmac, false, ["sign"]);
  return hexOf(await crypto.subtle.sign(hmac, key, encoder.encode(text)));
}

export const hexOf = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
