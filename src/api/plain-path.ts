/** The parts of a path as they stand, without those that lead nowhere. */
const partsOf = (path: string) => path.split("/").filter((part) => part !== "" && part !== ".");

/** True of the root, however it is written. */
export const isRoot = (path: string): boolean => partsOf(path).every((part) => part === "..");

/** True where the path, as it is written, lies below the directory. What links make of it only the sandbox can tell. */
export function liesBelow(path: string, directory: string): boolean {
  const above = partsOf(directory);
  const parts = partsOf(path);
  const below = parts.slice(above.length);
  return below.length > 0 && !below.includes("..") && above.every((part, index) => part === parts[index]);
}
