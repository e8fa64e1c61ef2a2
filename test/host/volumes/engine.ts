import { mkdtempSync, rmSync } from "node:fs";
import { newId } from "../../../src/contract/ids.ts";
import type { VolumeMount } from "../../../src/contract/volume-mount.ts";
import type { Start } from "../../../src/host/start-files.ts";
import { Volumes, type VolumesOptions } from "../../../src/host/volumes/volumes.ts";
import { VolumeServer } from "../volume-server.ts";

/** What one sandbox has mounted at one path. */
export class TestMount {
  readonly start: Start;
  readonly folder: string;
  readonly #volumes: Volumes;

  constructor(volumes: Volumes, start: Start, folder: string) {
    this.#volumes = volumes;
    this.start = start;
    this.folder = folder;
  }

  async commit() {
    return (await this.#volumes.commit(this.start))[0]!;
  }

  async reload() {
    return (await this.#volumes.reload(this.start))[0]!;
  }

  end(): Promise<void> {
    return this.#volumes.end(this.start);
  }
}

/** The volumes of a host beside a control plane in memory. Nothing is committed in the background unless asked for. */
export class Engine {
  readonly server: VolumeServer;
  readonly dir = mkdtempSync("/tmp/sb-volumes-");
  readonly #opened: Volumes[] = [];

  private constructor(server: VolumeServer) {
    this.server = server;
  }

  static async open(): Promise<Engine> {
    return new Engine(await VolumeServer.start());
  }

  volumes(more: Partial<VolumesOptions> = {}): Volumes {
    const options = { dir: `${this.dir}/${this.#opened.length}`, controlPlaneUrl: this.server.url, ...more };
    const volumes = new Volumes({ patienceMs: 0, backgroundMs: 3_600_000, cacheBytes: 2 ** 30, ...options });
    this.#opened.push(volumes);
    return volumes;
  }

  async mount(volumes: Volumes, volumeId: string, more: Partial<VolumeMount> = {}): Promise<TestMount> {
    const start = { sandboxId: newId("sandbox"), generation: 1 };
    const [bind] = await volumes.prepare(start, [this.server.mount(volumeId, more)]);
    return new TestMount(volumes, start, bind!.source);
  }

  close(): void {
    for (const volumes of this.#opened) volumes.close();
    this.server.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
