import { z } from "zod";
import { PathSchema } from "../../contract/fields.ts";
import {
  DirectoryRequestSchema,
  FileListRequestSchema,
  FileQuerySchema,
  MoveRequestSchema,
} from "../../contract/file.ts";
import { list, makeDirectory, move, remove, stat } from "../tree.ts";
import { FlagSchema, readJson, valid } from "./request.ts";
import { sendJson, sendNothing } from "./respond.ts";
import type { Handler } from "./route.ts";

const RemoveQuerySchema = z.object({ path: PathSchema, recursive: FlagSchema.default(false) });

export const statFile: Handler = async ({ host, response, query }, sandboxId) => {
  const { path } = valid(FileQuerySchema, Object.fromEntries(query));
  sendJson(response, await host.containers.use(sandboxId!, (container) => stat(container, path)));
};

export const listFiles: Handler = async ({ host, response, query, signal }, sandboxId) => {
  const { path, ...request } = valid(FileListRequestSchema, Object.fromEntries(query));
  sendJson(response, await host.containers.use(sandboxId!, (container) => list(container, path, request, signal)));
};

export const postDirectory: Handler = async ({ host, request, response }, sandboxId) => {
  const { path, parents } = await readJson(request, DirectoryRequestSchema);
  sendJson(response, await host.containers.use(sandboxId!, (container) => makeDirectory(container, path, parents)));
};

export const postMove: Handler = async ({ host, request, response }, sandboxId) => {
  const { from, to } = await readJson(request, MoveRequestSchema);
  await host.containers.use(sandboxId!, (container) => move(container, from, to));
  sendNothing(response);
};

export const deleteFile: Handler = async ({ host, response, query }, sandboxId) => {
  const { path, recursive } = valid(RemoveQuerySchema, Object.fromEntries(query));
  await host.containers.use(sandboxId!, (container) => remove(container, path, recursive));
  sendNothing(response);
};
