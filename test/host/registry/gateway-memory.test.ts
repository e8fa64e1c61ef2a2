import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { expect, it } from "vitest";
import { MAX_CHUNK_BYTES } from "../../../src/contract/registry.ts";
import type { Entrance } from "../../../src/host/registry/gateway.ts";
import { EngineStandIn, REPOSITORY } from "./engine-stand-in.ts";
import { RegistryDouble, TOKEN } from "./registry-double.ts";

const ROOT = resolve(import.meta.dirname, "../../..");
const MEBIBYTE = 1024 * 1024;

/** The most memory that a process has had, in MiB. */
const peakOf = (pid: number) =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]) / 1024;

it.skipIf(process.platform !== "linux")(
  "a layer of 230 MiB goes through the gateway in chunks, little of it held",
  async () => {
    const registry = await RegistryDouble.start();
    registry.keepsBytes = false;
    const granted = { repository: REPOSITORY, token: TOKEN };
    const script = `
    import { Gateway } from ${JSON.stringify(`${ROOT}/src/host/registry/gateway.ts`)};
    const gateway = new Gateway(${JSON.stringify(registry.url)});
    await gateway.admit(${JSON.stringify(granted)}, async (entrance) => {
      console.log(JSON.stringify(entrance));
      await new Promise((resolve) => process.stdin.on("end", resolve).resume());
    });`;
    const child = spawn(`${ROOT}/node_modules/.bin/node`, ["--input-type=module", "-e", script]);
    const ended = once(child, "exit");
    try {
      const [line] = (await once(child.stdout, "data")) as [Buffer];
      const engine = new EngineStandIn(JSON.parse(line.toString()) as Entrance);
      const pid = child.pid!;
      const before = peakOf(pid);
      const piece = randomBytes(64 * 1024);
      const hash = createHash("sha256");
      const layer = async function* () {
        for (let i = 0; i < 230 * 16; i++) {
          hash.update(piece);
          yield piece;
        }
      };
      const patched = await engine.call("PATCH", await engine.begin(), { body: layer() });
      expect([patched.status, patched.headers.range]).toEqual([202, `0-${230 * MEBIBYTE - 1}`]);
      const digest = `sha256:${hash.digest("hex")}`;
      const done = await engine.call("PUT", `${patched.headers.location}?digest=${digest}`);
      expect(done).toMatchObject({ status: 201, headers: { "docker-content-digest": digest } });
      expect(registry.blobs.has(digest)).toBe(true);
      expect(registry.of("PATCH").map(({ bytes }) => bytes / MEBIBYTE)).toEqual([...Array<number>(7).fill(32), 6]);
      expect(registry.largestBody).toBe(MAX_CHUNK_BYTES);
      console.log(`gateway: ${Math.round(before)} MiB before, at most ${Math.round(peakOf(pid))} MiB`);
      expect(peakOf(pid) - before).toBeLessThan(150);
    } finally {
      child.stdin.end();
      await ended;
      registry.close();
    }
  },
);
