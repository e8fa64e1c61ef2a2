import { ApiError } from "../contract/errors.ts";
import type { VolumeCommit, VolumeReload } from "../contract/volume-mount.ts";
import type { Reply } from "../rpc/api-reply.ts";
import type { SandboxEnv } from "./object.ts";
import type { Scope } from "./rpc.ts";
import { SandboxFiles } from "./sandbox-files.ts";

/** The calls to a sandbox's object that are for the volumes it mounts. */
export abstract class SandboxVolumes<Env extends SandboxEnv = SandboxEnv> extends SandboxFiles<Env> {
  commitVolumes(scope: Scope, paths?: string[]): Promise<Reply<VolumeCommit[]>> {
    return this.operation(scope, async () => {
      const meant = this.#meant(paths, true);
      const backend = await this.parts.host.running();
      return meant.length > 0 ? backend.commitVolumes(meant) : [];
    });
  }

  reloadVolumes(scope: Scope, paths?: string[]): Promise<Reply<VolumeReload[]>> {
    return this.operation(scope, async () => {
      const meant = this.#meant(paths, false);
      const backend = await this.parts.host.running();
      return meant.length > 0 ? backend.reloadVolumes(meant) : [];
    });
  }

  /** The mounts that are named, or else all; `isWrite`: of those that are not read-only. Throws `invalid_request` naming what is none. */
  #meant(paths: string[] | undefined, isWrite: boolean): string[] {
    const mounts = this.parts.store.record?.create.volumes ?? {};
    const refusal = (path: string) => {
      if (!mounts[path]) return "no volume is mounted there";
      return isWrite && mounts[path].read_only ? "is mounted read-only" : undefined;
    };
    if (!paths) return Object.keys(mounts).filter((path) => refusal(path) === undefined);
    const errors = paths.flatMap((path, at) => {
      const message = refusal(path);
      return message === undefined ? [] : [{ path: `paths.${at}`, message }];
    });
    const [first] = errors;
    if (first) throw new ApiError("invalid_request", { detail: `${first.path}: ${first.message}.`, errors });
    return [...new Set(paths)];
  }
}
