import type { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiEnv } from "./env.ts";

/** The OpenAPI 3.1 document, made from the schemas that validate. */
export function openapiDocument(v1: OpenAPIHono<ApiEnv>, basePath: string) {
  const { webhooks: _, ...document } = v1.getOpenAPI31Document({
    openapi: "3.1.0",
    info: {
      title: "Sandbar",
      version: "0.1.0",
      description:
        "The Modal Sandboxes API: isolated containers that run commands, hold files, open ports and are snapshotted.",
      license: { name: "Apache-2.0", url: "https://www.apache.org/licenses/LICENSE-2.0" },
    },
    servers: [{ url: basePath }],
    tags: [
      { name: "Sandboxes", description: "Sandbox lifecycle and management." },
      { name: "Execution", description: "Process execution inside sandboxes." },
      { name: "Filesystem", description: "Sandbox filesystem operations." },
      { name: "Images", description: "Snapshots of sandboxes." },
      { name: "Keys", description: "API keys." },
      { name: "Hosts", description: "The machines that run sandboxes." },
    ],
    security: [{ ModalToken: [] }],
  });
  document.components = {
    ...document.components,
    securitySchemes: { ModalToken: { type: "http", scheme: "bearer", description: "An API key." } },
  };
  return document;
}
