import { CompactEncrypt, compactDecrypt } from "jose";
import { sha256 } from "../auth/digest.ts";

/** Text under a key made from the deployment's signing secret: AES-256-GCM, as a compact JWE. */
export async function seal(signingSecret: string, text: string): Promise<string> {
  return new CompactEncrypt(new TextEncoder().encode(text))
    .setProtectedHeader({ alg: "dir", enc: "A256GCM" })
    .encrypt(await keyOf(signingSecret));
}

export async function openSealed(signingSecret: string, sealed: string): Promise<string> {
  const { plaintext } = await compactDecrypt(sealed, await keyOf(signingSecret));
  return new TextDecoder().decode(plaintext);
}

const keyOf = async (signingSecret: string) => new Uint8Array(await sha256(`sandbar-seal:${signingSecret}`));
