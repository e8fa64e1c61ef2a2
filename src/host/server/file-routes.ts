import { z } from "zod";
import { EndMarkerSchema } from "../../contract/end-marker.ts";
import { PathSchema } from "../../contract/fields.ts";
import { ModeSchema } from "../../contract/file.ts";
import { openFile, writeFile } from "../files.ts";
import { parseRange, valid } from "./request.ts";
import { sendChunks, sendNothing } from "./respond.ts";
import type { Handler } from "./route.ts";

const ReadQuerySchema = z.object({ path: PathSchema });
const WriteQuerySchema = z.object({
  path: PathSchema,
  mode: ModeSchema.optional(),
  size: z.coerce.number().int().min(0).optional(),
  end_marker: EndMarkerSchema.optional(),
});

export const getFile: Handler = async ({ host, request, response, query, signal }, sandboxId) => {
  const { path } = valid(ReadQuerySchema, Object.fromEntries(query));
  const range = parseRange(request.headers.range);
  await host.containers.use(sandboxId!, async (container) => {
    const file = await openFile(container, path, range, signal);
    try {
      response.writeHead(file.range ? 206 : 200, {
        "content-type": "application/octet-stream",
        "accept-ranges": "bytes",
        ...(file.length !== undefined && { "content-length": file.length }),
        ...(file.size !== undefined && { "x-sandbar-size": file.size }),
        ...(file.range && { "content-range": `bytes ${file.range.first}-${file.range.last}/${file.size}` }),
      });
      let left = file.length;
      const chunks = file.chunks[Symbol.asyncIterator]();
      await sendChunks(response, async () => {
        const { value, done } = await chunks.next();
        if (left !== undefined) left -= done ? 0 : value.length;
        // The file shrank below the length that the answer promised.
        if (done && left) throw new Error(`${left} bytes of a file are missing`);
        return done ? undefined : value;
      });
    } finally {
      file.close();
    }
  });
};

export const putFile: Handler = async ({ host, request, response, query, signal }, sandboxId) => {
  const { path, mode, size, end_marker: endMarker } = valid(WriteQuerySchema, Object.fromEntries(query));
  await host.containers.use(sandboxId!, (container) =>
    writeFile(container, path, request, { size, endMarker, mode, signal }),
  );
  sendNothing(response);
};
