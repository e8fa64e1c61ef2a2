import { z } from "zod";
import { EndMarkerSchema } from "../../contract/end-marker.ts";
import { FileQuerySchema } from "../../contract/file.ts";
import { openArchive, writeArchive } from "../archive/archives.ts";
import { valid } from "./request.ts";
import { sendChunks, sendNothing } from "./respond.ts";
import type { Handler } from "./route.ts";

const WriteQuerySchema = FileQuerySchema.extend({
  size: z.coerce.number().int().min(0).optional(),
  end_marker: EndMarkerSchema.optional(),
});

export const getArchive: Handler = async ({ host, response, query, signal }, sandboxId) => {
  const { path } = valid(FileQuerySchema, Object.fromEntries(query));
  await host.containers.use(sandboxId!, async (container) => {
    const archive = await openArchive(container, path, signal);
    try {
      response.writeHead(200, { "content-type": "application/x-tar" });
      await sendChunks(response, () => archive.next());
    } finally {
      archive.close();
    }
  });
};

export const putArchive: Handler = async ({ host, request, response, query, signal }, sandboxId) => {
  const { path, size, end_marker: endMarker } = valid(WriteQuerySchema, Object.fromEntries(query));
  await host.containers.use(sandboxId!, (container) =>
    writeArchive(container, path, request, { size, endMarker, signal }),
  );
  sendNothing(response);
};
