import { RegistryError } from "./errors.ts";

const COMPONENT = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const REPOSITORY = new RegExp(`^${COMPONENT}(?:/${COMPONENT})+$`);
const MAX_REPOSITORY_CHARACTERS = 255;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[A-Za-z0-9=_-]+$/;
export const SHA256 = /^sha256:[0-9a-f]{64}$/;

/** What names a manifest in its repository. */
export type Reference = { tag: string } | { digest: string };

/** The environment that a repository is of: its first component. */
export const environmentOf = (repository: string): string => repository.split("/", 1)[0]!;

/** Throws NAME_INVALID for what is not `<environment>/<name>[/<more>…]`. */
export function requireRepositoryName(name: string): void {
  if (name.length <= MAX_REPOSITORY_CHARACTERS && REPOSITORY.test(name)) return;
  const message = `A repository is <environment>/<name>, of a-z 0-9 . _ - and no longer than ${MAX_REPOSITORY_CHARACTERS}.`;
  throw new RegistryError("NAME_INVALID", { message });
}

/** Throws DIGEST_INVALID for what is no digest, or one of another algorithm. */
export function requireDigest(text: string | null): string {
  if (text !== null && SHA256.test(text)) return text;
  const isOther = text !== null && DIGEST.test(text) && !text.startsWith("sha256:");
  const message = isOther
    ? `Digests of the algorithm ${text.slice(0, text.indexOf(":"))} are not supported: only sha256.`
    : "A digest is `sha256:` and 64 of 0-9 a-f.";
  throw new RegistryError("DIGEST_INVALID", { message });
}

/** A tag or a digest; throws where the text is neither. */
export function parseReference(text: string): Reference {
  if (text.includes(":")) return { digest: requireDigest(text) };
  if (TAG.test(text)) return { tag: text };
  const message = "A tag is 1 to 128 of A-Z a-z 0-9 . _ - and begins with none of . -";
  throw new RegistryError("MANIFEST_INVALID", { message });
}
