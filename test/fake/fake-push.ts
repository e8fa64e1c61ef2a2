import type { ImageTarget } from "../../src/contract/host-protocol.ts";

const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const CONFIG = "application/vnd.oci.image.config.v1+json";
const LAYER = "application/vnd.oci.image.layer.v1.tar";

/** Pushes an image of these layers into a registry, as a host does. */
export async function pushImage(
  send: (path: string, init: RequestInit) => Promise<Response>,
  { repository, tag, token }: ImageTarget,
  layers: Uint8Array[],
): Promise<void> {
  const authorization = `Bearer ${token}`;
  const post = async (bytes: Uint8Array, mediaType: string) => {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as BufferSource));
    const digest = `sha256:${[...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
    const path = `/v2/${repository}/blobs/uploads/?digest=${digest}`;
    await accepted(await send(path, { method: "POST", headers: { authorization }, body: bytes as BodyInit }));
    return { mediaType, digest, size: bytes.length };
  };
  const config = await post(
    new TextEncoder().encode(JSON.stringify({ architecture: "amd64", os: "linux", tag })),
    CONFIG,
  );
  const descriptors = [];
  for (const layer of layers) descriptors.push(await post(layer, LAYER));
  const manifest = { schemaVersion: 2, mediaType: MANIFEST, config, layers: descriptors };
  const headers = { authorization, "content-type": MANIFEST };
  const path = `/v2/${repository}/manifests/${tag}`;
  await accepted(await send(path, { method: "PUT", headers, body: JSON.stringify(manifest) }));
}

async function accepted(response: Response): Promise<void> {
  if (response.status !== 201) throw new Error(`The registry answers ${response.status}: ${await response.text()}`);
}
