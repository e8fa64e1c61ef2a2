/** What a path of the registry names. Its texts are as they came, and not yet checked. */
export type Target =
  | { kind: "base" }
  | { kind: "catalog" }
  | { kind: "manifest"; repository: string; reference: string }
  | { kind: "blob"; repository: string; digest: string }
  | { kind: "uploads"; repository: string }
  | { kind: "upload"; repository: string; uploadId: string }
  | { kind: "tags"; repository: string }
  | { kind: "referrers"; repository: string; digest: string };
export type TargetOf<Kind extends Target["kind"]> = Extract<Target, { kind: Kind }>;

/** Names hold slashes, and may hold words like `blobs`: what is matched is the end of the path, the longest name before it. */
const PATTERNS: [pattern: RegExp, target: (repository: string, rest: string) => Target][] = [
  [/^\/v2\/?$/, () => ({ kind: "base" })],
  [/^\/v2\/_catalog$/, () => ({ kind: "catalog" })],
  [/^\/v2\/(.+)\/blobs\/uploads\/?$/, (repository) => ({ kind: "uploads", repository })],
  [/^\/v2\/(.+)\/blobs\/uploads\/([^/]+)$/, (repository, uploadId) => ({ kind: "upload", repository, uploadId })],
  [/^\/v2\/(.+)\/blobs\/([^/]+)$/, (repository, digest) => ({ kind: "blob", repository, digest })],
  [/^\/v2\/(.+)\/manifests\/([^/]+)$/, (repository, reference) => ({ kind: "manifest", repository, reference })],
  [/^\/v2\/(.+)\/tags\/list$/, (repository) => ({ kind: "tags", repository })],
  [/^\/v2\/(.+)\/referrers\/([^/]+)$/, (repository, digest) => ({ kind: "referrers", repository, digest })],
];

/** Whether the path is the registry's. */
export const isRegistryPath = (pathname: string): boolean => pathname === "/v2" || pathname.startsWith("/v2/");

/** Undefined where the registry has nothing at the path. */
export function parsePath(pathname: string): Target | undefined {
  let path: string;
  try {
    // Some clients escape the colon of a digest.
    path = decodeURIComponent(pathname);
  } catch {
    return undefined;
  }
  for (const [pattern, target] of PATTERNS) {
    const match = pattern.exec(path);
    if (match) return target(match[1] ?? "", match[2] ?? "");
  }
  return undefined;
}
