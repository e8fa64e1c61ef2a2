/** Variables by name. */
export type Values = Record<string, string>;

/**
 * The variables as a process is given them, `NAME=value` and a NUL between two: no longer than they are. JSON can make six bytes of one,
 * and the largest secret more than a row of D1 holds.
 */
export const packValues = (values: Values): Uint8Array =>
  new TextEncoder().encode(
    Object.entries(values)
      .map(([name, value]) => `${name}=${value}`)
      .join("\0"),
  );

export function unpackValues(bytes: Uint8Array): Values {
  const entries = new TextDecoder("utf-8", { ignoreBOM: true, fatal: false }).decode(bytes).split("\0").filter(Boolean);
  return Object.fromEntries(
    entries.map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]),
  );
}
