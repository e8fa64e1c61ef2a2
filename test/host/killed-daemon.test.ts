import { appendFileSync, existsSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { makeSlot, slotOf } from "../../src/host/launcher/slot.ts";
import { DaemonProcess } from "./daemon-process.ts";
import { text, until, type HostCaller } from "./signed-host.ts";

let daemon: DaemonProcess;
let host: HostCaller;
let box: string;

beforeAll(async () => {
  daemon = await DaemonProcess.start("embedded");
  host = daemon.host;
  box = await host.sandbox();
}, 30_000);
afterAll(async () => {
  await host.call("DELETE", box).catch(() => undefined);
  await daemon.remove();
});

const status = async (sandbox: string) => (await host.call("GET", sandbox)).json;
const journal = (line: object) =>
  appendFileSync(`${daemon.dataDir}/logs/${basename(box)}.1/journal`, `${JSON.stringify(line)}\n`);
/** Runs something in the place of a daemon that was killed, and starts the next one. */
async function whileDead(run: () => unknown): Promise<void> {
  await daemon.kill();
  await run();
  await daemon.start();
}

describe("a daemon that is killed", () => {
  test("while it takes a slot away leaves one that starts", async () => {
    const slot = `${await daemon.runtimeDir()}/${basename(box)}/${slotOf(newId("process"))}`;
    await whileDead(() => writeFileSync(`${slot}.spec`, "exit 1\n"));
    expect((await host.exec(box, ["true"])).returncode).toBe(0);
    expect(existsSync(`${slot}.spec`)).toBe(false);
  });

  test("between writing a process down and starting it has not started it: whoever asks again does", async () => {
    const [announced, written] = [newId("process"), newId("process")];
    const controlDir = `${await daemon.runtimeDir()}/${basename(box)}`;
    await whileDead(() => {
      for (const id of [announced, written]) journal({ id, isPlain: true });
      const base = `${controlDir}/${slotOf(written)}`;
      makeSlot(base, new Set(["ack", "st", "out", "err"]));
      writeFileSync(`${base}.spec`, "echo never\n");
    });
    for (const process_id of [announced, written]) {
      const { output, returncode } = await host.exec(box, ["sh", "-c", "echo once; exit 3"], { process_id });
      expect([text(output?.stdout), returncode]).toEqual(["once\n", 3]);
    }
    await daemon.restart();
    expect((await host.call("GET", `${box}/processes/${written}`)).json).toMatchObject({
      returncode: 3,
      stdout_bytes: 5,
    });
  });

  test("at the end of a process has all that it wrote", async () => {
    for (let round = 0; round < 12; round += 1) {
      const process_id = newId("process");
      const spec = { process_id, command: ["sh", "-c", "head -c 300000 /dev/zero; echo end >&2; exit 5"], env: {} };
      const answer = host.send("POST", `${box}/processes?wait_ms=5000`, spec).catch(() => undefined);
      await sleep(5 + round * 4);
      await daemon.restart(50);
      await answer;
      const again = await host.send("POST", `${box}/processes?wait_ms=5000`, spec);
      expect(again.json).toMatchObject({
        returncode: 5,
        finish_reason: "exited",
        stdout_bytes: 300_000,
        stderr_bytes: 4,
      });
    }
  }, 60_000);

  test("while a reader holds back the end of what a process wrote leaves all of it", async () => {
    const process_id = newId("process");
    const size = 16 * 1024 * 1024 + 500_000;
    const command = ["sh", "-c", `head -c ${size} /dev/zero; exit 5`];
    // Nobody reads it: it is held at the end of its first window for two seconds, and what is left of it lies in the pipe.
    const started = await host.send("POST", `${box}/processes`, { process_id, command, env: {} });
    expect(started.status).toBe(200);
    const path = `${box}/processes/${process_id}`;
    await until(async () => (await host.call("GET", path)).json.stdout_bytes === 16 * 1024 * 1024);
    await sleep(400);
    await daemon.restart();
    await until(async () => (await host.call("GET", path)).json.returncode === 5, 20_000);
    expect((await host.call("GET", path)).json).toMatchObject({ finish_reason: "exited", stdout_bytes: size });
  }, 60_000);

  test("knows how a container ended that it has removed, until it is told to forget it", async () => {
    const sandbox = await host.sandbox({ entrypoint: ["sh", "-c", "exit 9"] });
    await until(async () => (await status(sandbox))["kind"] === "exited");
    await until(() => !existsSync(`${daemon.dataDir}/sandboxes/${basename(sandbox)}`));
    await until(async () => (await status(`${sandbox}/processes/main`))["returncode"] === 9);
    await daemon.restart();
    expect(await status(sandbox)).toMatchObject({ kind: "exited", exit: { returncode: 9, oom: false } });
    expect((await host.call("GET", `${sandbox}/processes/main`)).json).toMatchObject({ returncode: 9 });
    expect((await host.call("DELETE", sandbox)).status).toBe(204);
    await daemon.restart();
    expect(await status(sandbox)).toEqual({ kind: "gone" });
    expect(readdirSync(`${daemon.dataDir}/ends`)).toEqual([]);
  });

  test("in the middle of a start leaves nothing of it, and it starts when it is asked for again", async () => {
    const spec = host.spec();
    const sandbox = `/v1/sandboxes/${spec.sandbox_id}`;
    await host.put(spec);
    await whileDead(() => rmSync(`${daemon.dataDir}/sandboxes/${spec.sandbox_id}/started`));
    expect(await status(sandbox)).toEqual({ kind: "gone" });
    expect((await host.put(spec)).json).toMatchObject({ kind: "launched" });
    expect((await host.exec(sandbox, ["true"])).returncode).toBe(0);
    await host.call("DELETE", sandbox);
  });
});
