import { createRoute, z, type OpenAPIHono } from "@hono/zod-openapi";
import { describeImage, ImageCatalog } from "../../catalog/images.ts";
import { ApiError } from "../../contract/errors.ts";
import { DeployedImageSchema, IMAGE_KINDS, ImageSchema, PushedImageSchema } from "../../contract/image.ts";
import { ListQueryShape, pageSchema } from "../../contract/list.ts";
import type { ApiEnv } from "../env.ts";
import { deleteImage } from "../delete-image.ts";
import { deployedImages } from "../deployed-images.ts";
import { pushedImages } from "../pushed-images.ts";
import { json, problem } from "../responses.ts";
import { requires } from "../route-table.ts";

const ImageParamsSchema = z.object({ image_id: z.string() });

const listRoute = createRoute({
  method: "get",
  path: "/images",
  operationId: "listImages",
  tags: ["Images"],
  summary: "List Images",
  description:
    "The snapshots of the environment, newest first; with `kind=pushed` the images that were pushed into its registry, by their " +
    "references; with `kind=deployed` those that the deployment brings for sandboxes on Cloudflare Containers.",
  security: requires("read"),
  request: { query: z.strictObject({ ...ListQueryShape, kind: z.enum(IMAGE_KINDS).default("snapshot") }) },
  responses: {
    200: json("A page of images.", pageSchema(z.union([ImageSchema, PushedImageSchema, DeployedImageSchema]))),
    ...problem,
  },
});

const getRoute = createRoute({
  method: "get",
  path: "/images/{image_id}",
  operationId: "getImage",
  tags: ["Images"],
  summary: "Get Image",
  security: requires("read"),
  request: { params: ImageParamsSchema },
  responses: { 200: json("The image.", ImageSchema), ...problem },
});

const deleteRoute = createRoute({
  method: "delete",
  path: "/images/{image_id}",
  operationId: "deleteImage",
  tags: ["Images"],
  summary: "Delete Image",
  description: "Sandboxes that were made from the image are not touched.",
  security: requires("write"),
  request: { params: ImageParamsSchema },
  responses: { 204: { description: "Image deleted." }, ...problem },
});

export function registerImages(api: OpenAPIHono<ApiEnv>): void {
  api.openapi(listRoute, async (c) => {
    const { environment } = c.get("principal");
    const { kind, ...page } = c.req.valid("query");
    if (kind === "deployed") return c.json(await deployedImages(c.env, page), 200);
    if (kind === "pushed") return c.json(await pushedImages(c.env, environment, page), 200);
    return c.json(await new ImageCatalog(c.env.DB).list(environment, Date.now(), page), 200);
  });

  api.openapi(getRoute, async (c) => {
    const { environment } = c.get("principal");
    const image = await new ImageCatalog(c.env.DB).find(environment, c.req.valid("param").image_id, Date.now());
    if (!image) throw new ApiError("image_not_found");
    return c.json(describeImage(image), 200);
  });

  api.openapi(deleteRoute, async (c) => {
    await deleteImage(c.env, c.get("principal").environment, c.req.valid("param").image_id);
    return c.body(null, 204);
  });
}
