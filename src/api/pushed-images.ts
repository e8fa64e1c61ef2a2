import type { PageRequest } from "../catalog/cursor.ts";
import type { PushedImage } from "../contract/image.ts";
import type { Page } from "../contract/list.ts";
import { openRegistry } from "../registry/client.ts";
import type { Env } from "./env.ts";

/** The images that were pushed into the environment's registry, by their reference. */
export async function pushedImages(
  env: Env,
  environment: string,
  { limit, cursor }: PageRequest,
): Promise<Page<PushedImage>> {
  const found = await openRegistry(env, environment).images(cursor, limit + 1);
  const data = found.slice(0, limit).map(({ reference, digest, size, createdAt }): PushedImage => ({
    kind: "pushed",
    backend: "docker",
    reference,
    digest,
    size,
    created_at: new Date(createdAt).toISOString(),
  }));
  return found.length > limit ? { data, next_cursor: data.at(-1)!.reference } : { data };
}
