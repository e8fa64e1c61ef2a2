import { ApiError } from "../../src/contract/errors.ts";
import type { VolumeCommit, VolumeMount, VolumeReload } from "../../src/contract/volume-mount.ts";
import { join, type FakeFiles, type FakeNode } from "./fake-files.ts";

/** What is committed of a volume, by paths relative to its root. Nodes are never changed, only replaced. */
interface FakeVolume {
  version: number;
  nodes: Map<string, FakeNode>;
}

/** The volumes in memory, as all fake containers share them. */
export class FakeVolumes {
  readonly #volumes = new Map<string, FakeVolume>();
  /** Set to keep nothing of what is committed from being stored. */
  isAway = false;

  of(volumeId: string): FakeVolume {
    const volume = this.#volumes.get(volumeId) ?? { version: 0, nodes: new Map() };
    this.#volumes.set(volumeId, volume);
    return volume;
  }
}

/** The volumes that one fake container mounts. */
export class FakeMounts {
  readonly #volumes: FakeVolumes;
  readonly #files: FakeFiles;
  readonly #mounts: VolumeMount[];
  /** By mount: what it showed when it was last as the volume. */
  readonly #bases = new Map<VolumeMount, Map<string, FakeNode>>();

  constructor(volumes: FakeVolumes, files: FakeFiles, mounts: VolumeMount[] = []) {
    this.#volumes = volumes;
    this.#files = files;
    this.#mounts = mounts;
    for (const mount of mounts) this.#show(mount);
  }

  commit(paths: string[] | undefined): VolumeCommit[] {
    return this.#named(paths).map((mount) => {
      if (mount.read_only) throw new ApiError("invalid_request");
      return this.#commit(mount);
    });
  }

  reload(paths: string[] | undefined): VolumeReload[] {
    return this.#named(paths).map((mount) => {
      if (!mount.read_only) this.#commit(mount);
      const changed = this.#show(mount);
      const { path, volume_id } = mount;
      const { version } = this.#volumes.of(volume_id);
      return { path, volume_id, version, changed_files: changed.length, downloaded_bytes: bytesOf(changed) };
    });
  }

  #commit(mount: VolumeMount): VolumeCommit {
    const { path, volume_id } = mount;
    const volume = this.#volumes.of(volume_id);
    const now = this.#shown(mount);
    const changes = differences(this.#bases.get(mount)!, now);
    if (changes.length > 0 && this.#volumes.isAway)
      throw new ApiError("volume_not_stored", {
        detail: `${path}: ${changes.length} files are not durable yet.`,
        retryAfter: 1,
      });
    for (const [name, node] of changes) {
      if (node) volume.nodes.set(within(mount, name), node);
      else volume.nodes.delete(within(mount, name));
    }
    if (changes.length > 0) volume.version += 1;
    this.#bases.set(mount, now);
    return {
      path,
      volume_id,
      version: volume.version,
      changed_files: changes.length,
      uploaded_bytes: bytesOf(changes),
    };
  }

  /** Brings the mount to what is committed; answers what came, changed or went. */
  #show(mount: VolumeMount): Change[] {
    this.#files.ensureDirectory(mount.path);
    const prefix = within(mount, "");
    const committed = new Map(
      [...this.#volumes.of(mount.volume_id).nodes]
        .filter(([name]) => name.startsWith(prefix))
        .map(([name, node]) => [name.slice(prefix.length), node]),
    );
    const changes = differences(this.#shown(mount), committed);
    for (const [name, node] of changes) {
      if (node) this.#files.put(join(mount.path, name), node);
      else this.#files.remove(join(mount.path, name), true);
    }
    this.#bases.set(mount, committed);
    return changes;
  }

  #shown(mount: VolumeMount): Map<string, FakeNode> {
    return new Map(this.#files.below(mount.path));
  }

  #named(paths: string[] | undefined): VolumeMount[] {
    if (!paths) return this.#mounts;
    return paths.map((path) => {
      const mount = this.#mounts.find((one) => one.path === path);
      if (!mount) throw new ApiError("invalid_request");
      return mount;
    });
  }
}

type Change = [name: string, node: FakeNode | undefined];

const within = ({ sub_path }: VolumeMount, name: string) => (sub_path === undefined ? name : `${sub_path}/${name}`);

/** What goes comes first, the innermost before what it is in. */
const differences = (before: Map<string, FakeNode>, after: Map<string, FakeNode>): Change[] => [
  ...[...before.keys()]
    .filter((name) => !after.has(name))
    .toSorted()
    .toReversed()
    .map((name): Change => [name, undefined]),
  ...[...after].filter(([name, node]) => before.get(name) !== node),
];

const bytesOf = (changes: Change[]): number =>
  changes.reduce((sum, [, node]) => sum + (node?.type === "file" ? node.bytes.length : 0), 0);
