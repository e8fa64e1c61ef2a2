import { createHash } from "node:crypto";
import { rmSync } from "node:fs";
import { basename } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { DaemonProcess } from "./daemon-process.ts";
import { MIB } from "./embedded-host.ts";
import { text, until, type HostCaller } from "./signed-host.ts";

let daemon: DaemonProcess;
let host: HostCaller;
let box: string;
const restart = (pauseMs?: number) => daemon.restart(pauseMs);

const path = (processId: string) => `${box}/processes/${processId}`;

beforeAll(async () => {
  daemon = await DaemonProcess.start("embedded");
  host = daemon.host;
  box = await host.sandbox();
}, 30_000);
afterAll(async () => {
  await host.call("DELETE", box).catch(() => undefined);
  await daemon.remove();
});

test("a reader goes on behind a killed daemon, and has every byte once", async () => {
  await host.exec(box, ["sh", "-c", "head -c 104857600 /dev/urandom >/tmp/big"], {}, 60_000);
  const sum = text((await host.exec(box, ["sha256sum", "/tmp/big"])).output!.stdout).slice(0, 64);
  const { process_id } = await host.exec(box, ["sh", "-c", "cat /tmp/big; exit 6"], { is_followed: true }, 0);
  const hash = createHash("sha256");
  let offset = 0;
  let kills = 0;
  while (offset < 100 * MIB) {
    const answer = await host.open("GET", `${path(process_id)}/stdout?offset=${offset}&follow=true`);
    expect(answer.statusCode).toBe(200);
    const killAt = kills < 3 ? offset + 10 * MIB + Math.ceil(Math.random() * 10 * MIB) : Infinity;
    answer.on("error", () => {});
    try {
      for await (const chunk of answer) {
        hash.update(chunk as Buffer);
        offset += (chunk as Buffer).length;
        if (offset < killAt) continue;
        kills++;
        await restart();
        break;
      }
    } catch {
      // Cut by the kill.
    }
    answer.destroy();
  }
  expect(kills).toBe(3);
  expect(hash.digest("hex")).toBe(sum);
  expect((await host.call("GET", `${path(process_id)}?wait_ms=5000`)).json).toMatchObject({ returncode: 6 });
}, 90_000);

test("what ended while no daemon was there, and what ended before, is known", async () => {
  const before = await host.exec(box, ["sh", "-c", "echo done; exit 3"]);
  const meanwhile = await host.exec(box, ["sh", "-c", "sleep 0.4; echo late; exit 8"], {}, 0);
  await restart(900);
  expect((await host.call("GET", path(before.process_id))).json).toMatchObject({ returncode: 3, stdout_bytes: 5 });
  expect((await host.call("GET", `${path(before.process_id)}/stdout`)).body.toString()).toBe("done\n");
  expect((await host.call("GET", `${path(meanwhile.process_id)}?wait_ms=5000`)).json).toMatchObject({
    returncode: 8,
    finish_reason: "exited",
  });
  expect((await host.call("GET", `${path(meanwhile.process_id)}/stdout`)).body.toString()).toBe("late\n");
}, 30_000);

test("an open stdin stays open, at its offset", async () => {
  const { process_id } = await host.exec(box, ["cat"], { open_stdin: true }, 0);
  await host.call("POST", `${path(process_id)}/stdin?offset=0`, { body: "before " });
  await restart();
  const again = await host.call("POST", `${path(process_id)}/stdin?offset=0`, { body: "before after" });
  expect(again.json).toEqual({ offset: 12, closed: false });
  await host.call("POST", `${path(process_id)}/stdin?eof=true`);
  expect((await host.call("GET", `${path(process_id)}/stdout?follow=true`)).body.toString()).toBe("before after");
  expect((await host.call("GET", `${path(process_id)}?wait_ms=5000`)).json).toMatchObject({ returncode: 0 });
}, 30_000);

test("timeouts hold, and signals find the group", async () => {
  const timed = await host.exec(box, ["sleep", "600"], { timeout_ms: 1500 }, 0);
  const killed = await host.exec(box, ["sh", "-c", "sleep 601 & sleep 601"], {}, 0);
  await restart();
  expect((await host.call("GET", box)).json).toMatchObject({ kind: "running", busy: true });
  await host.send("POST", `${path(killed.process_id)}/signal`, { signal: "SIGTERM" });
  expect((await host.call("GET", `${path(killed.process_id)}?wait_ms=5000`)).json).toMatchObject({ returncode: 143 });
  expect((await host.call("GET", `${path(timed.process_id)}?wait_ms=5000`)).json).toMatchObject({
    returncode: 137,
    timed_out: true,
    finish_reason: "timeout",
  });
  expect((await host.exec(box, ["pgrep", "-f", "^sleep 60"])).returncode).toBe(1);
  expect((await host.call("GET", box)).json).toMatchObject({ kind: "running", busy: false });
}, 30_000);

test("a file under way when the daemon was killed leaves nothing running", async () => {
  await host.exec(box, ["sh", "-c", "head -c 200000000 /dev/zero >/tmp/large"], {}, 30_000);
  const reading = await host.open("GET", `${box}/files?path=/tmp/large`);
  reading.on("error", () => {}).pause();
  await restart();
  await expect
    .poll(async () => (await host.exec(box, ["pgrep", "-f", "cat /tmp/large"])).returncode, { timeout: 10_000 })
    .toBe(1);
}, 30_000);

test("the entrypoint goes on, with its output", async () => {
  const script = "echo one; until [ -e /tmp/go ]; do sleep 0.05; done; echo two; exit 9";
  const other = await host.sandbox({ sandbox_id: newId("sandbox"), entrypoint: ["sh", "-c", script] });
  await restart();
  await host.exec(other, ["touch", "/tmp/go"]);
  expect((await host.call("GET", `${other}/processes/main?wait_ms=5000`)).json).toMatchObject({ returncode: 9 });
  expect((await host.call("GET", other)).json).toMatchObject({ kind: "exited", exit: { returncode: 9, oom: false } });
  await restart();
  expect((await host.call("GET", `${other}/processes/main/stdout`)).body.toString()).toBe("one\ntwo\n");
}, 30_000);

test("a sandbox whose control files are gone ends, and the others go on", async () => {
  const broken = await host.sandbox({ sandbox_id: newId("sandbox") });
  const { process_id } = await host.exec(box, ["sleep", "100"], {}, 0);
  await daemon.kill();
  rmSync(`${await daemon.runtimeDir()}/${basename(broken)}/cmd`);
  await daemon.start();
  await until(async () => (await host.call("GET", broken)).json.kind === "exited");
  expect((await host.call("GET", path(process_id))).json).toMatchObject({ returncode: null });
  expect((await host.call("DELETE", broken)).status).toBe(204);
}, 30_000);
