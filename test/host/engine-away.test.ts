import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { chooseRuntime } from "../../src/host/choose-runtime.ts";
import { EngineError } from "../../src/host/docker/engine-error.ts";
import { patiently } from "../../src/host/docker/patience.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import { noEngine, spec } from "./docker-host.ts";

const away = () => new EngineError("connect ECONNREFUSED", undefined, undefined);

describe("an engine that is away", () => {
  it("is asked until it answers, and its answers are taken, errors too", async () => {
    let asked = 0;
    const answer = await patiently(async () => {
      asked += 1;
      if (asked < 3) throw away();
      return "here";
    });
    expect([answer, asked]).toEqual(["here", 3]);
    const refusal = new EngineError("no such container", 404, undefined);
    await expect(patiently(() => Promise.reject(refusal))).rejects.toBe(refusal);
    await expect(patiently(() => Promise.reject(away()), 300)).rejects.toThrow("ECONNREFUSED");
  });
});

/** A socket of the real engine's that can be taken away. */
class EngineDoor {
  readonly path = `${mkdtempSync("/tmp/sandbar-door-")}/docker.sock`;
  readonly #sockets = new Set<Socket>();
  /** Set to go away for a while once the engine has had such a request, and before it has answered. */
  awayAfter: string | undefined;
  #server: Server | undefined;

  async open(): Promise<void> {
    rmSync(this.path, { force: true });
    this.#server = createServer((client) => {
      const engine = connect("/var/run/docker.sock");
      client.on("data", (chunk: Buffer) => {
        if (this.awayAfter === undefined || !chunk.toString("latin1").includes(this.awayAfter)) return;
        this.awayAfter = undefined;
        engine.unpipe(client);
        setTimeout(() => this.close(), 700);
        setTimeout(() => void this.open(), 2500);
      });
      for (const [one, other] of [
        [client, engine],
        [engine, client],
      ] as const) {
        this.#sockets.add(one);
        one.pipe(other);
        one.on("error", () => other.destroy()).on("close", () => other.destroy());
      }
    });
    await new Promise<void>((ready) => this.#server!.listen(this.path, ready));
  }

  close(): void {
    this.#server?.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }
}

describe.skipIf(noEngine !== undefined)("a host whose engine is away when it starts", () => {
  const door = new EngineDoor();
  const before = process.env["DOCKER_HOST"];
  let options: { dataDir: string; hostId: string; controlPlaneUrl: string };
  beforeEach(() => {
    process.env["DOCKER_HOST"] = `unix://${door.path}`;
    options = {
      dataDir: mkdtempSync("/tmp/sandbar-away-"),
      hostId: newId("host"),
      controlPlaneUrl: "http://127.0.0.1:9",
    };
  });
  afterEach(() => {
    door.close();
    if (before === undefined) delete process.env["DOCKER_HOST"];
    else process.env["DOCKER_HOST"] = before;
    rmSync(options.dataDir, { recursive: true, force: true });
  });
  const later = (run: () => unknown) => setTimeout(run, 1000);

  it("waits for one that it has used before, and does not become another host", async () => {
    await door.open();
    expect((await chooseRuntime("auto", options)).runtime.kind).toBe("docker");
    door.close();
    rmSync(door.path, { force: true });
    for (const wanted of ["auto", "docker"] as const) {
      later(() => door.open());
      expect((await chooseRuntime(wanted, options)).runtime.kind).toBe("docker");
      door.close();
    }
  });

  it("is told at once where there never was one", async () => {
    await expect(chooseRuntime("docker", options)).rejects.toThrow("no Docker engine answers");
    expect(existsSync(`${options.dataDir}/used-engine`)).toBe(false);
  });

  it.each(["/containers/create", "/start"])("in the middle of a start leaves nothing (%s)", async (request) => {
    await door.open();
    const runtime = await openDockerRuntime({ ...options, socketPath: door.path });
    door.awayAfter = request;
    await expect(runtime.start(spec())).rejects.toThrow(/socket hang up|ECONNR/);
    expect(await runtime.recover()).toEqual([]);
    const args = ["ps", "-aq", "--filter", `label=dev.sandbar.host=${options.hostId}`];
    // By its own socket: this process is behind the other one.
    const env = { ...process.env, DOCKER_HOST: "unix:///var/run/docker.sock" };
    expect(execFileSync("docker", args, { env, encoding: "utf8" })).toBe("");
  });

  it("finds its containers once the engine is back, and takes none for gone", async () => {
    await door.open();
    const runtime = await openDockerRuntime({ ...options, socketPath: door.path });
    const container = await runtime.start(spec());
    try {
      door.close();
      rmSync(door.path, { force: true });
      later(() => door.open());
      const found = await runtime.recover();
      expect(found.map(({ sandboxId }) => sandboxId)).toEqual([container.sandboxId]);
    } finally {
      await container.stop();
    }
  });
});
