import { ApiError } from "../contract/errors.ts";

/** The images that the deployment brings for containers beside their objects; undefined where it has no containers. */
export function deployedImages(container: Container | undefined): string[] | undefined {
  return container && Object.keys(container.images);
}

/** Throws `unsupported_by_backend`, naming the field, where a sandbox cannot start from the image here. */
export function requireDeployedImage(container: Container | undefined, image: string | undefined): void {
  const images = deployedImages(container);
  if (!images) {
    const message = "this deployment has no containers: see `containers` in wrangler.toml";
    throw new ApiError("unsupported_by_backend", {
      detail: `backend: ${message}.`,
      errors: [{ path: "backend", message }],
    });
  }
  if (image === undefined || image.startsWith("im-") || images.includes(image)) return;
  const message = `Cloudflare Containers runs the images of the deployment (${images.join(", ")}) and snapshots of them, nothing else`;
  throw new ApiError("unsupported_by_backend", { detail: `image: ${message}.`, errors: [{ path: "image", message }] });
}
