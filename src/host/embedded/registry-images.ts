import { arch } from "node:os";
import { createHash } from "node:crypto";
import { z } from "zod";
import type { ImageSource, ImageTarget } from "../../contract/host-protocol.ts";
import { ApiError } from "../../contract/errors.ts";
import { BASE_ANNOTATION, DigestSchema, HOST_BASE } from "../../contract/registry.ts";
import { Unpackable } from "../layers/pack.ts";
import { BadLayer } from "../layers/unpack.ts";
import { downloadDocument } from "../registry/blob-download.ts";
import { BlobUpload, hasBlob } from "../registry/blob-upload.ts";
import { RegistryError, Upstream } from "../registry/upstream.ts";
import { StartFailure } from "../runtime.ts";
import type { OciLayers, StoredLayer } from "./oci-layers.ts";

const MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLAIN_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar";
const MAX_DOCUMENT_BYTES = 1 << 20;
/** A mount's options fit in one page. */
export const MAX_LAYERS = 90;
/** Node's names of architectures as images have them. */
const ARCHITECTURES: Record<string, string> = { x64: "amd64", ia32: "386" };
const ARCHITECTURE = ARCHITECTURES[arch()] ?? arch();

const ManifestSchema = z.object({
  config: z.object({ digest: DigestSchema }),
  layers: z.array(
    z.object({ mediaType: z.enum([LAYER_TYPE, PLAIN_LAYER_TYPE]), digest: DigestSchema, size: z.int().min(0) }),
  ),
  annotations: z.record(z.string(), z.string()).default({}),
});
const ConfigSchema = z.object({
  architecture: z.string(),
  rootfs: z.object({ diff_ids: z.array(DigestSchema) }),
});

/** Images between this machine and the control plane's registry: OCI images whose layers lie over a machine's own programs. */
export class RegistryImages {
  readonly #layers: OciLayers;
  readonly #url: string | undefined;

  constructor(layers: OciLayers, controlPlaneUrl: string | undefined) {
    this.#layers = layers;
    this.#url = controlPlaneUrl;
  }

  /** Stores an image of these layers, the oldest first. Throws `image_not_stored` or `snapshot_failed` with the reason. */
  async push(names: string[], { repository, tag, token }: ImageTarget): Promise<{ uploadedBytes: number }> {
    const upstream = this.#open(token);
    let uploadedBytes = 0;
    try {
      const layers: StoredLayer[] = [];
      for (const name of names) {
        const pushed = await this.#layers.push(upstream, repository, name);
        layers.push(pushed.stored);
        uploadedBytes += pushed.uploadedBytes;
      }
      const config = await pushDocument(upstream, repository, configOf(layers));
      uploadedBytes += config.size;
      const manifest = {
        schemaVersion: 2,
        mediaType: MANIFEST_TYPE,
        config: { mediaType: CONFIG_TYPE, ...config },
        layers: layers.map(({ digest, size }) => ({ mediaType: LAYER_TYPE, digest, size })),
        annotations: { [BASE_ANNOTATION]: HOST_BASE },
      };
      const headers = { "content-type": MANIFEST_TYPE };
      const body = Buffer.from(JSON.stringify(manifest));
      await upstream.patiently("PUT", `/v2/${repository}/manifests/${tag}`, { headers, body });
      return { uploadedBytes };
    } catch (error) {
      if (!(error instanceof RegistryError || error instanceof Unpackable)) throw error;
      const why = error instanceof Unpackable ? error.message : `${error.message}.`;
      const detail = `The image could not be stored in the registry: ${why}`;
      // What no layer can hold is so whenever it is tried.
      throw new ApiError(error instanceof Unpackable ? "snapshot_failed" : "image_not_stored", {
        detail,
        cause: error,
      });
    }
  }

  /** Brings an image here, layer by layer; `keep` says under which name each is kept, or that it is here. Throws {@link StartFailure}. */
  async pull(
    { repository, digest, token }: ImageSource,
    nameOf: (layer: StoredLayer) => Promise<{ name: string; isHere: boolean }>,
  ): Promise<string[]> {
    const upstream = this.#open(token);
    try {
      const target = `/v2/${repository}/manifests/${digest}`;
      const document = await downloadDocument(upstream, target, digest, MAX_DOCUMENT_BYTES, MANIFEST_TYPE);
      const manifest = parse(ManifestSchema, document);
      if (manifest.annotations[BASE_ANNOTATION] !== HOST_BASE) throw new BadLayer("it is for a container engine");
      const { digest: configDigest } = manifest.config;
      const configTarget = `/v2/${repository}/blobs/${configDigest}`;
      const config = parse(
        ConfigSchema,
        await downloadDocument(upstream, configTarget, configDigest, MAX_DOCUMENT_BYTES),
      );
      if (config.architecture !== ARCHITECTURE)
        throw new BadLayer(`it was made on ${config.architecture}, and this host is ${ARCHITECTURE}`);
      const { diff_ids: diffIds } = config.rootfs;
      if (manifest.layers.length > MAX_LAYERS) throw new BadLayer(`it has more than ${MAX_LAYERS} layers`);
      if (diffIds.length !== manifest.layers.length) throw new BadLayer("its parts do not fit together");
      const names: string[] = [];
      for (const [index, { mediaType, ...blob }] of manifest.layers.entries()) {
        const layer = { ...blob, diff_id: diffIds[index]! };
        const { name, isHere } = await nameOf(layer);
        // What is here may be somebody else's: it takes part only where this registry has it, too.
        if (isHere && !(await hasBlob(upstream, repository, layer.digest))) throw new BadLayer("it lacks a layer");
        if (!isHere) await this.#layers.pull(upstream, repository, name, layer, mediaType === LAYER_TYPE);
        names.push(name);
      }
      return names;
    } catch (error) {
      if (!(error instanceof RegistryError || error instanceof BadLayer)) throw error;
      throw new StartFailure(`The image cannot be pulled: ${error.message}.`, { cause: error });
    }
  }

  #open(token: string): Upstream {
    if (this.#url !== undefined) return new Upstream(this.#url, token);
    throw new ApiError("backend_unavailable", {
      detail: "The host knows no control plane whose registry it could use.",
    });
  }
}

function configOf(layers: StoredLayer[]): string {
  const created = new Date().toISOString();
  return JSON.stringify({
    architecture: ARCHITECTURE,
    os: "linux",
    created,
    config: {},
    rootfs: { type: "layers", diff_ids: layers.map((layer) => layer.diff_id) },
    history: layers.map(() => ({ created, created_by: "sandbar snapshot" })),
  });
}

async function pushDocument(upstream: Upstream, repository: string, text: string) {
  const bytes = new TextEncoder().encode(text);
  const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
  const upload = await BlobUpload.begin(upstream, repository);
  await upload?.write(bytes);
  await upload?.finish(digest);
  return { digest, size: bytes.length };
}

function parse<Schema extends z.ZodType>(schema: Schema, text: string): z.output<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BadLayer("its documents are damaged");
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw new BadLayer("it is no image of sandboxes on the embedded runtime");
  return parsed.data;
}
