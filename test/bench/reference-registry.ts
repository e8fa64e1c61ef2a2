import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { CountingProxy } from "../e2e/counting-proxy.ts";
import { freePort, sleep } from "../e2e/instance.ts";
import { Service } from "../faults/service.ts";

const REGISTRY = "/usr/bin/docker-registry";
const READY_MS = 20_000;
const run = promisify(execFile);

/** A container of the engine's own, whose changes are kept by `docker commit` and pushed by `docker push` to a registry on this machine. */
export class ReferenceRegistry {
  readonly #proxy: CountingProxy;
  readonly #service: Service;
  readonly #directory: string;
  readonly #references: string[] = [];

  private constructor(proxy: CountingProxy, service: Service, directory: string) {
    this.#proxy = proxy;
    this.#service = service;
    this.#directory = directory;
  }

  /** Undefined, and it is said why, where there is none to compare with. */
  static async start(base: string): Promise<ReferenceRegistry | undefined> {
    if (!existsSync(REGISTRY)) {
      console.error(`Snapshots are compared with nothing: there is no ${REGISTRY} (apt-get install docker-registry).`);
      return undefined;
    }
    const directory = mkdtempSync(join(tmpdir(), "sandbar-registry-"));
    const port = await freePort();
    const config = { version: 0.1, storage: { filesystem: { rootdirectory: `${directory}/data` } } };
    // JSON is YAML.
    writeFileSync(`${directory}/config.yml`, JSON.stringify({ ...config, http: { addr: `127.0.0.1:${port}` } }));
    const spec = { command: REGISTRY, args: ["serve", `${directory}/config.yml`], cwd: directory, isGroup: false };
    const service = new Service(spec, (output) => console.error(`The registry ended:\n${output}`));
    service.start();
    const reference = new ReferenceRegistry(await CountingProxy.start(port), service, directory);
    await reference.#untilAnswers(port);
    // What every image stands on is there already, as it is in Sandbar's registry.
    await run("docker", ["tag", base, reference.#tag("base")]);
    await run("docker", ["push", reference.#tag("base")]);
    return reference;
  }

  /** Milliseconds of `docker commit` and `docker push`, and the bytes that went to the registry. */
  async snapshot(container: string, tag: string): Promise<{ took: number; sentBytes: number }> {
    const reference = this.#tag(tag);
    const begin = performance.now();
    const sentBytes = await this.#proxy.during(async () => {
      await run("docker", ["commit", container, reference]);
      await run("docker", ["push", reference]);
    });
    return { took: performance.now() - begin, sentBytes };
  }

  async remove(): Promise<void> {
    await run("docker", ["rmi", "-f", ...this.#references]).catch(() => undefined);
    await this.#service.stop();
    this.#proxy.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #tag(tag: string): string {
    const reference = `${this.#proxy.url.replace("http://", "")}/bench/snapshots:${tag}`;
    this.#references.push(reference);
    return reference;
  }

  async #untilAnswers(port: number): Promise<void> {
    for (const giveUpAt = Date.now() + READY_MS; Date.now() < giveUpAt; await sleep(100)) {
      if (
        await fetch(`http://127.0.0.1:${port}/v2/`).then(
          () => true,
          () => false,
        )
      )
        return;
    }
    throw new Error(`The registry does not answer:\n${this.#service.output}`);
  }
}
