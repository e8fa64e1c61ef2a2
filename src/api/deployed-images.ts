import type { PageRequest } from "../catalog/cursor.ts";
import type { DeployedImage } from "../contract/image.ts";
import type { Page } from "../contract/list.ts";
import type { Env } from "./env.ts";
import { openSandbox } from "./sandbox-client.ts";

/** An object that is no sandbox: what a container of this deployment can start from is only seen from beside one. */
const ANY_OBJECT = "sb-0000000000000000000000";

/** The images that the deployment brings, by name. None where it has no containers. */
export async function deployedImages(env: Env, { limit, cursor = "" }: PageRequest): Promise<Page<DeployedImage>> {
  const names = (await openSandbox(env, ANY_OBJECT).deployedImages()) ?? [];
  const left = names.toSorted().filter((name) => name > cursor);
  const data = left.slice(0, limit).map((name): DeployedImage => ({ kind: "deployed", backend: "cloudflare", name }));
  return left.length > limit ? { data, next_cursor: data.at(-1)!.name } : { data };
}
