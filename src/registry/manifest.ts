import { z } from "zod";
import { RegistryError } from "./errors.ts";
import { SHA256 } from "./names.ts";

/** Longest manifest that is taken. */
export const MAX_MANIFEST_BYTES = 1024 * 1024;

const IMAGE_TYPES = [
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
] as const;
export const OCI_INDEX = "application/vnd.oci.image.index.v1+json";
const INDEX_TYPES = [OCI_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"] as const;

const DescriptorSchema = z.looseObject({
  mediaType: z.string().min(1),
  digest: z.string().regex(SHA256, "must be a sha256 digest"),
  size: z.int().min(0),
});
const AnnotationsSchema = z.record(z.string(), z.string()).nullish();
const common = {
  schemaVersion: z.literal(2),
  artifactType: z.string().nullish(),
  subject: DescriptorSchema.nullish(),
  annotations: AnnotationsSchema,
};
const ImageSchema = z.looseObject({
  ...common,
  mediaType: z.enum(IMAGE_TYPES).optional(),
  config: DescriptorSchema,
  layers: z.array(DescriptorSchema),
});
const PlatformSchema = z.looseObject({ os: z.string(), architecture: z.string() });
const IndexSchema = z.looseObject({
  ...common,
  mediaType: z.enum(INDEX_TYPES).optional(),
  manifests: z.array(DescriptorSchema.extend({ platform: PlatformSchema.nullish() })),
});

/** A blob that a manifest names. */
export interface BlobReference {
  digest: string;
  size: number;
}

/** A manifest that an index names. */
export interface ChildReference {
  digest: string;
  /** `<os>/<architecture>` */
  platform: string | undefined;
}

/** A manifest, as it came and as it is understood. */
export interface Manifest {
  digest: string;
  mediaType: string;
  bytes: Uint8Array<ArrayBuffer>;
  blobs: BlobReference[];
  children: ChildReference[];
  /** Sum of its layers, in bytes. */
  layersSize: number;
  subject: string | undefined;
  artifactType: string | undefined;
  annotations: Record<string, string>;
}

/** Understands a manifest; throws what is wrong with it. `contentType` is that of the request, if it has one. */
export async function readManifest(bytes: Uint8Array<ArrayBuffer>, contentType: string | undefined): Promise<Manifest> {
  const json = parseJson(bytes);
  const mediaType = mediaTypeOf(json, contentType);
  const digest = `sha256:${hex(await crypto.subtle.digest("SHA-256", bytes))}`;
  if ((IMAGE_TYPES as readonly string[]).includes(mediaType)) {
    const image = parse(ImageSchema, json, mediaType);
    // Also those that a manifest says to be elsewhere: an engine that has such a layer from somebody else would not ask for it.
    const layers = image.layers.map(reference);
    return {
      digest,
      mediaType,
      bytes,
      children: [],
      ...aboutOf(image),
      artifactType: image.artifactType || image.config.mediaType,
      blobs: [reference(image.config), ...layers],
      layersSize: image.layers.reduce((sum, { size }) => sum + size, 0),
    };
  }
  const index = parse(IndexSchema, json, mediaType);
  const children = index.manifests.map(({ digest, platform }) => ({
    digest,
    platform: platform ? `${platform.os}/${platform.architecture}` : undefined,
  }));
  const artifactType = index.artifactType || undefined;
  return { digest, mediaType, bytes, blobs: [], children, layersSize: 0, ...aboutOf(index), artifactType };
}

export const hex = (bytes: ArrayBuffer): string =>
  Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

const reference = ({ digest, size }: z.infer<typeof DescriptorSchema>): BlobReference => ({ digest, size });

const aboutOf = ({ subject, annotations }: Pick<z.infer<typeof IndexSchema>, "subject" | "annotations">) => ({
  subject: subject?.digest,
  annotations: annotations ?? {},
});

function parseJson(bytes: Uint8Array): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
    if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new RegistryError("MANIFEST_INVALID", { message: "The manifest is not a JSON object." });
}

/** The type that the request says, or the manifest itself. Both, and they differ: neither is believed. */
function mediaTypeOf(json: Record<string, unknown>, contentType: string | undefined): string {
  const said = contentType?.split(";")[0]!.trim().toLowerCase() || undefined;
  const own = typeof json["mediaType"] === "string" ? json["mediaType"] : undefined;
  const mediaType = said ?? own ?? "none";
  if (!([...IMAGE_TYPES, ...INDEX_TYPES] as string[]).includes(mediaType)) {
    const message = `Manifests of the type ${mediaType} are not taken: only images and indexes, of OCI or of Docker's schema 2.`;
    throw new RegistryError("MANIFEST_TYPE_UNSUPPORTED", { message });
  }
  if (own !== undefined && own !== mediaType) {
    throw new RegistryError("MANIFEST_INVALID", { message: `The manifest says that it is ${own}, not ${mediaType}.` });
  }
  return mediaType;
}

function parse<T>(schema: z.ZodType<T>, json: unknown, mediaType: string): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const errors = result.error.issues.map(({ path, message }) => ({ path: path.join("."), message }));
  const [first] = errors;
  const message = `The manifest is not of the type ${mediaType}: ${first!.path || "it"}: ${first!.message}`;
  throw new RegistryError("MANIFEST_INVALID", { message, detail: { errors: errors.slice(0, 10) } });
}
