import { RegistryError } from "./errors.ts";
import { OCI_INDEX } from "./manifest.ts";
import { requireDigest } from "./names.ts";
import type { TargetOf } from "./path.ts";
import type { Visit } from "./visit.ts";

/** Names of a page, where the client does not say or asks for more. */
const MAX_NAMES = 1000;

/** `GET /v2/<name>/tags/list` */
export async function answerTags({ query, registry }: Visit, { repository }: TargetOf<"tags">): Promise<Response> {
  const { limit, after } = pageOf(query);
  const { names, hasMore } = await registry.tags(repository, after, limit);
  const headers = linkTo(`/v2/${repository}/tags/list`, limit, hasMore ? names.at(-1) : undefined);
  return Response.json({ name: repository, tags: names }, { headers });
}

/** `GET /v2/_catalog` */
export async function answerCatalog({ query, registry }: Visit): Promise<Response> {
  const { limit, after } = pageOf(query);
  const { names, hasMore } = await registry.repositories(after, limit);
  const headers = linkTo("/v2/_catalog", limit, hasMore ? names.at(-1) : undefined);
  return Response.json({ repositories: names }, { headers });
}

/** `GET /v2/<name>/referrers/<digest>`: also of a manifest that is not there. */
export async function answerReferrers({ query, registry }: Visit, target: TargetOf<"referrers">): Promise<Response> {
  const artifactType = query.get("artifactType") || undefined;
  const manifests = await registry.referrers(target.repository, requireDigest(target.digest), artifactType);
  const headers = new Headers({ "content-type": OCI_INDEX });
  if (artifactType !== undefined) headers.set("oci-filters-applied", "artifactType");
  return new Response(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }), { headers });
}

function pageOf(query: URLSearchParams): { limit: number; after: string | undefined } {
  const n = query.get("n");
  if (n !== null && !/^\d{1,15}$/.test(n)) throw new RegistryError("PAGE_INVALID");
  return { limit: Math.min(n === null ? MAX_NAMES : Number(n), MAX_NAMES), after: query.get("last") ?? undefined };
}

/** Leads on behind the last name. */
function linkTo(path: string, limit: number, last: string | undefined): Record<string, string> {
  if (last === undefined) return {};
  return { link: `<${path}?${new URLSearchParams({ n: String(limit), last })}>; rel="next"` };
}
