import type { z } from "zod";
import { hasCode } from "../contract/errors.ts";
import type { DirectoryRequestSchema, FileInfo } from "../contract/file.ts";
import type { SandboxRpc, Scope } from "../sandbox/rpc.ts";

/** Makes the directory. Unless it is the first that goes by its key, it may be made already. */
export async function makeDirectory(
  sandbox: SandboxRpc,
  scope: Scope,
  { path, parents }: z.output<typeof DirectoryRequestSchema>,
  isFirst: boolean,
): Promise<FileInfo> {
  try {
    return await sandbox.makeDirectory(scope, path, parents);
  } catch (error) {
    if (isFirst || !hasCode(error, "file_exists")) throw error;
    const there = await sandbox.stat(scope, path);
    if (there.type !== "directory") throw error;
    return there;
  }
}
