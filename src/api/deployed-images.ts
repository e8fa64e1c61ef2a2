import type { DeployedImage } from "../contract/image.ts";
import type { Env } from "./env.ts";
import { openSandbox } from "./sandbox-client.ts";

/** An object that is no sandbox: what a container of this deployment can start from is only seen from beside one. */
const ANY_OBJECT = "sb-0000000000000000000000";

/** The images that the deployment brings. None where it has no containers. */
export async function deployedImages(env: Env): Promise<DeployedImage[]> {
  const names = (await openSandbox(env, ANY_OBJECT).deployedImages()) ?? [];
  return names.map((name) => ({ kind: "deployed", backend: "cloudflare", name }));
}
