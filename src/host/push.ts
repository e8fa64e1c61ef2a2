import { parseArgs } from "node:util";
import { parseRegistryReference } from "../contract/registry.ts";
import { parseUrl } from "./options.ts";
import { UsageError } from "./usage.ts";

export const PUSH_USAGE = `Usage: sandbar push --control-plane URL --key KEY IMAGE ENVIRONMENT/NAME:TAG

Pushes an image of this machine's container engine into the registry of a Sandbar deployment, where
\`"image": "ENVIRONMENT/NAME:TAG"\` of a create starts it. \`docker push\` does the same as long as no layer is
larger than what the deployment's platform takes in one request (100 MB on Cloudflare); this cuts them up.

  --control-plane URL   the deployment                 SANDBAR_CONTROL_PLANE
  --key KEY             an API key that may write      SANDBAR_KEY
`;

export interface PushArguments {
  controlPlaneUrl: string;
  key: string;
  /** As the engine names it. */
  image: string;
  repository: string;
  tag: string;
}

/** Reads the arguments after `sandbar push`; "help" when that is what was asked for. Throws {@link UsageError}. */
export function parsePushArguments(argv: string[], env: NodeJS.ProcessEnv): PushArguments | "help" {
  const { values, positionals } = parse(argv);
  if (values.help) return "help";
  const controlPlane = values["control-plane"] ?? env["SANDBAR_CONTROL_PLANE"];
  const key = values.key ?? env["SANDBAR_KEY"];
  if (!controlPlane) throw new UsageError("--control-plane (or SANDBAR_CONTROL_PLANE) is missing");
  if (!key) throw new UsageError("--key (or SANDBAR_KEY) is missing");
  const [image, name, ...rest] = positionals;
  if (image === undefined || name === undefined || rest.length > 0)
    throw new UsageError("push takes an image and the name it is to have: sandbar push IMAGE ENVIRONMENT/NAME:TAG");
  const parsed = parseRegistryReference(name.slice(0, Math.max(0, name.indexOf("/"))), name);
  if (!parsed || !("tag" in parsed.reference))
    throw new UsageError(`"${name}" is no name of the form ENVIRONMENT/NAME:TAG`);
  const { repository, reference } = parsed;
  return { controlPlaneUrl: parseUrl("--control-plane", controlPlane), key, image, repository, tag: reference.tag };
}

function parse(argv: string[]) {
  const text = { type: "string" } as const;
  try {
    return parseArgs({
      args: argv,
      allowPositionals: true,
      options: { "control-plane": text, key: text, help: { type: "boolean", short: "h" } },
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Pushes it, by the engine's own push. */
export async function runPush({ controlPlaneUrl, key, image, repository, tag }: PushArguments): Promise<void> {
  const [{ Engine }, { RegistryImages }] = await Promise.all([
    import("./docker/engine.ts"),
    import("./docker/registry-images.ts"),
  ]);
  const images = new RegistryImages(new Engine(undefined), controlPlaneUrl);
  const { uploadedBytes } = await images.push(image, { repository, tag, token: key });
  console.log(`${repository}:${tag} is pushed: ${uploadedBytes} bytes that the registry did not have`);
}
