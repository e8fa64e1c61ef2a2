import { createHash } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import { Attached } from "./attached.ts";
import { Instance, sleep } from "./instance.ts";
import { killHost, killWorker } from "./leftovers.ts";
import { RUNTIMES } from "./runtimes.ts";

const MIB = 1_048_576;
const SIZE = 100 * MIB;
const CUTS = 50;

describe.each(RUNTIMES)("clients that come back, on the %s runtime", (runtime) => {
  let instance: Instance;
  afterEach(() => instance?.remove());

  /** A file of random bytes in a new sandbox, and its digest. */
  async function withFile(): Promise<{ sandboxId: string; sum: string }> {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 900 });
    await instance.exec(sandboxId, ["sh", "-c", `head -c ${SIZE} /dev/urandom >/tmp/big`], {}, 60);
    const { stdout } = await instance.exec(sandboxId, ["sha256sum", "/tmp/big"], {}, 60);
    return { sandboxId, sum: stdout.slice(0, 64) };
  }

  const start = async (sandboxId: string, command: string[]) =>
    (await instance.call<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, { command })).process_id;

  /** Reads stdout to its end, over cuts and over whatever answers while a part of Sandbar is down. */
  async function readAll(sandboxId: string, processId: string, cut: (offset: number) => boolean | Promise<boolean>) {
    const hash = createHash("sha256");
    let offset = 0;
    for (const giveUpAt = Date.now() + 80_000; offset < SIZE;) {
      if (Date.now() > giveUpAt) throw new Error(`Only ${offset} bytes came.`);
      const client = new AbortController();
      try {
        const path = `/sandboxes/${sandboxId}/processes/${processId}/stdout?offset=${offset}&follow=true`;
        const response = await instance.fetch(path, { signal: client.signal });
        if (response.status === 410) throw new Expired(await response.text());
        if (!response.ok) throw new Error(`${response.status}`);
        for await (const chunk of response.body!) {
          hash.update(chunk as Uint8Array);
          offset += (chunk as Uint8Array).length;
          if (await cut(offset)) client.abort();
        }
      } catch (error) {
        if (error instanceof Expired) throw error;
        await sleep(client.signal.aborted ? 0 : 200);
      }
    }
    return hash.digest("hex");
  }

  it("killed fifty times at random, they end with every byte once", async () => {
    const { sandboxId, sum } = await withFile();
    let cuts = 0;
    let next = 0;
    const digest = await readAll(sandboxId, await start(sandboxId, ["cat", "/tmp/big"]), (offset) => {
      if (cuts >= CUTS || offset < next) return false;
      cuts++;
      next = offset + Math.random() * 3 * MIB;
      return true;
    });
    expect(cuts).toBe(CUTS);
    expect(digest).toBe(sum);
  });

  it("over a kill -9 of the Worker and of the host daemon, they end with every byte once", async () => {
    const { sandboxId, sum } = await withFile();
    const processId = await start(sandboxId, ["sh", "-c", "cat /tmp/big; exit 5"]);
    const kills = [
      { at: 15 * MIB, kill: killHost },
      { at: 40 * MIB, kill: killWorker },
      { at: 70 * MIB, kill: killHost },
    ];
    const digest = await readAll(sandboxId, processId, (offset) => {
      if (!kills[0] || offset < kills[0].at) return false;
      kills.shift()!.kill(instance);
      return false;
    });
    expect(kills).toEqual([]);
    expect(digest).toBe(sum);
    const path = `/sandboxes/${sandboxId}/processes/${processId}?wait=10`;
    await expect
      .poll(() => instance.call("GET", path).catch(() => undefined), { timeout: 20_000 })
      .toMatchObject({
        returncode: 5,
        finish_reason: "exited",
      });
  });

  it("an attached terminal comes back behind a kill -9 of the Worker, and a process behind one of the host", async () => {
    instance = await Instance.start(runtime);
    const sandboxId = await instance.create({ timeout: 900 });
    const processId = await start(sandboxId, [
      "sh",
      "-c",
      "i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); sleep 0.05; done",
    ]);
    const attach = async (offset: number) => {
      for (const giveUpAt = Date.now() + 40_000; ;) {
        try {
          return await Attached.open(
            instance,
            `/sandboxes/${sandboxId}/processes/${processId}/attach?stdout_offset=${offset}`,
          );
        } catch (error) {
          if (Date.now() > giveUpAt) throw error;
          await sleep(200);
        }
      }
    };
    let text = "";
    let kills = 0;
    for (const giveUpAt = Date.now() + 80_000; !text.includes("line 399\n");) {
      if (Date.now() > giveUpAt) throw new Error(`It ends with ${text.slice(-100)}`);
      const attached = await attach(text.length);
      while (!attached.closed) {
        await sleep(50);
        if (kills === 0 && attached.text.length > 200) {
          kills++;
          killWorker(instance);
        } else if (kills === 1 && attached.text.length > 200 && text.length > 0) {
          kills++;
          killHost(instance);
        }
      }
      text += attached.text;
    }
    expect(kills).toBe(2);
    expect(text).toBe(Array.from({ length: 400 }, (_, index) => `line ${index}\n`).join(""));
  });
});

class Expired extends Error {}
