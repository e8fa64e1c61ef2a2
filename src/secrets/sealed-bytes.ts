import { base64url } from "jose";

const AES_GCM = "AES-GCM";
export const KEY_BYTES = 32;
const IV_BYTES = 12;

const encoder = new TextEncoder();

/** A key of AES-256-GCM from its bytes. */
export const aesKey = (bytes: BufferSource): Promise<CryptoKey> =>
  crypto.subtle.importKey("raw", bytes, AES_GCM, false, ["encrypt", "decrypt"]);

/** The bytes under the key, as text. They open only for what is `about` the same: moved elsewhere they are worth nothing. */
export async function sealBytes(key: CryptoKey, bytes: Uint8Array, about: string): Promise<string> {
  const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
  const algorithm = { name: AES_GCM, iv, additionalData: encoder.encode(about) };
  const sealed = new Uint8Array(await crypto.subtle.encrypt(algorithm, key, bytes));
  const all = new Uint8Array(IV_BYTES + sealed.length);
  all.set(iv);
  all.set(sealed, IV_BYTES);
  return base64url.encode(all);
}

/** Throws where it was sealed under another key or about something else, or was changed. */
export async function openBytes(key: CryptoKey, sealed: string, about: string): Promise<Uint8Array> {
  const all = base64url.decode(sealed);
  const algorithm = { name: AES_GCM, iv: all.subarray(0, IV_BYTES), additionalData: encoder.encode(about) };
  return new Uint8Array(await crypto.subtle.decrypt(algorithm, key, all.subarray(IV_BYTES)));
}
