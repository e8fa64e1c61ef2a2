/** How an overlay marks what is not a file like any other, and how a layer does. */
export type Marks = "trusted" | "user";

export const WHITEOUT_PREFIX = ".wh.";
export const OPAQUE_ENTRY = ".wh..wh..opq";

export const opaqueXattr = (marks: Marks) => `${marks}.overlay.opaque`;
export const OPAQUE = Buffer.from("y");

/** Of either kind: what is but an attribute to one overlay would be a command to another. */
export function isOverlayXattr(name: string): boolean {
  return name.startsWith("trusted.overlay.") || name.startsWith("user.overlay.");
}

/**
 * Whether an attribute is of the file, not of the machine it lies on: the rest of `security.*` are labels and
 * signatures that only the security module there has a use for.
 */
export function isPortableXattr(name: string): boolean {
  if (isOverlayXattr(name)) return false;
  return name === "security.capability" || !name.startsWith("security.");
}
