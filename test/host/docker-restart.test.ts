import { readdirSync, rmSync } from "node:fs";
import { basename } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { openDockerRuntime } from "../../src/host/docker/runtime.ts";
import type { Spawned } from "../../src/host/runtime.ts";
import { DaemonProcess } from "./daemon-process.ts";
import { DockerHost, exec, follow, IMAGE, noEngine, spawn } from "./docker-host.ts";
import { text, until, type HostCaller } from "./signed-host.ts";

describe.skipIf(noEngine !== undefined)("a daemon that is killed, on docker", { timeout: 60_000 }, () => {
  let daemon: DaemonProcess;
  let host: HostCaller;
  let box: string;
  const restart = (pauseMs?: number) => daemon.restart(pauseMs);

  const path = (processId: string) => `${box}/processes/${processId}`;
  const ended = async (processId: string) => (await host.call("GET", `${path(processId)}?wait_ms=5000`)).json;

  beforeAll(async () => {
    daemon = await DaemonProcess.start("docker");
    host = daemon.host;
    box = await host.sandbox({ image: IMAGE });
  });
  afterAll(async () => {
    await host.call("DELETE", box);
    expect([readdirSync(await daemon.runtimeDir()), readdirSync(`${daemon.dataDir}/docker`)]).toEqual([[], []]);
    await daemon.remove();
  });

  it("finds processes that run, with their input and output, and what ended meanwhile", async () => {
    const cat = (await host.exec(box, ["cat"], { open_stdin: true }, 0)).process_id;
    await host.call("POST", `${path(cat)}/stdin?offset=0`, { body: "before " });
    const late = (await host.exec(box, ["sh", "-c", "sleep 0.4; echo late; exit 8"], {}, 0)).process_id;
    const other = (await host.exec(box, ["sh", "-c", "sleep 601 & sleep 601"], {}, 0)).process_id;
    const timed = (await host.exec(box, ["sleep", "602"], { timeout_ms: 2500 }, 0)).process_id;
    await restart(900);
    await host.call("POST", `${path(cat)}/stdin?offset=7&eof=true`, { body: "after" });
    expect(await ended(cat)).toMatchObject({ returncode: 0 });
    expect((await host.call("GET", `${path(cat)}/stdout`)).body.toString()).toBe("before after");
    expect(await ended(late)).toMatchObject({ returncode: 8, finish_reason: "exited" });
    expect((await host.call("GET", `${path(late)}/stdout`)).body.toString()).toBe("late\n");
    await host.send("POST", `${path(other)}/signal`, { signal: "SIGTERM" });
    expect(await ended(other)).toMatchObject({ returncode: 143 });
    expect(await ended(timed)).toMatchObject({ returncode: 137, timed_out: true });
    const left = await host.exec(box, ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 60'"]);
    expect(text(left.output!.stdout)).toBe("0\n");
    expect(text((await host.exec(box, ["echo", "well"])).output!.stdout)).toBe("well\n");
  });

  it("finds the entrypoint, and how it ended", async () => {
    const script = "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; exit 9";
    const other = await host.sandbox({ image: IMAGE, entrypoint: ["sh", "-c", script] });
    await restart();
    expect((await host.call("GET", other)).json).toMatchObject({ kind: "running" });
    await host.exec(other, ["touch", "/tmp/go"]);
    expect((await host.call("GET", `${other}/processes/main?wait_ms=5000`)).json).toMatchObject({ returncode: 9 });
    expect((await host.call("GET", other)).json).toMatchObject({ kind: "exited", exit: { returncode: 9, oom: false } });
    expect((await host.call("GET", `${other}/processes/main/stdout`)).body.toString()).toBe("one\ntwo\n");
  });

  it("hears of an entrypoint that ended meanwhile", async () => {
    const script = "until [ -e /tmp/go ]; do sleep 0.05; done; sleep 0.4; echo end; exit 9";
    const other = await host.sandbox({ image: IMAGE, entrypoint: ["sh", "-c", script] });
    await host.exec(other, ["touch", "/tmp/go"]);
    await restart(900);
    expect((await host.call("GET", `${other}/processes/main?wait_ms=5000`)).json).toMatchObject({ returncode: 9 });
    expect((await host.call("GET", other)).json).toMatchObject({ kind: "exited", exit: { returncode: 9, oom: false } });
    expect((await host.call("GET", `${other}/processes/main/stdout`)).body.toString()).toBe("end\n");
  });

  it("goes on with the engine's exec where the launcher's files are gone", async () => {
    const other = await host.sandbox({ image: IMAGE });
    await daemon.kill();
    rmSync(`${await daemon.runtimeDir()}/${basename(other)}-1/cmd`);
    await daemon.start();
    expect(text((await host.exec(other, ["echo", "still here"])).output!.stdout)).toBe("still here\n");
    expect((await host.call("DELETE", other)).status).toBe(204);
  });
});

describe.skipIf(noEngine !== undefined)("a second runtime over the engine's own exec", { timeout: 30_000 }, () => {
  const opened = DockerHost.open({ useLauncher: false });
  afterAll(async () => (await opened).close());
  const again = async () => {
    const { dataDir, hostId } = await opened;
    return (await openDockerRuntime({ dataDir, hostId, useLauncher: false })).recover();
  };

  it("follows what runs to its end, and signals it", async () => {
    const container = await (await opened).start();
    const [runs, ends] = [await spawn(container, ["sleep", "603"]), await spawn(container, ["sh", "-c", "exit 4"])];
    expect(await ends.exited).toBe(4);
    const found = (await again()).find(({ sandboxId }) => sandboxId === container.sandboxId)!;
    const adopt = async (handle: string | undefined) => (await found.adopt(newId("process"), handle)) as Spawned;
    expect(await (await adopt(ends.handle)).exited).toBe(4);
    expect(await found.adopt(newId("process"), "0".repeat(64))).toBe(undefined);
    expect(await found.adopt(newId("process"), undefined)).toBe(undefined);
    const adopted = await adopt(runs.handle);
    found.dropUnclaimed();
    await adopted.kill("SIGTERM");
    expect([await adopted.exited, await runs.exited]).toEqual([143, 143]);
  });

  it("attaches to the entrypoint anew", async () => {
    const script = "until [ -e /tmp/go ]; do sleep 0.05; done; echo went; exit 7";
    const container = await (await opened).start({ entrypoint: ["sh", "-c", script] });
    const found = (await again()).find(({ sandboxId }) => sandboxId === container.sandboxId)!;
    const seen = follow(found.main!.stdout.stream());
    await exec(found, ["touch", "/tmp/go"]);
    expect(await found.main!.exited).toBe(7);
    await until(() => seen.text === "went\n");
    expect(await found.exited).toEqual({ returncode: 7, oom: false });
  });
});
