import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { ChildContainer, ChildRuntime } from "./child-runtime.ts";
import { SignedHost, text, until } from "./signed-host.ts";

const runtime = new ChildRuntime();
let host: SignedHost;
let box: string;

beforeAll(async () => {
  host = await SignedHost.start(runtime, { windowBytes: 1024 * 1024 });
  box = await host.sandbox();
});
afterAll(() => host.daemon.close({ stopContainers: true }));

describe("containers", () => {
  test("start once, also when asked at the same time", async () => {
    const before = runtime.started.length;
    runtime.startDelayMs = 50;
    const spec = host.spec();
    const answers = await Promise.all([host.put(spec), host.put(spec), host.put(spec)]);
    runtime.startDelayMs = 0;
    expect(answers.map(({ json }) => json.kind).toSorted()).toEqual(["adopted", "adopted", "launched"]);
    expect(runtime.started.length).toBe(before + 1);
  });
  test("of an older generation are refused, of a newer one replace", async () => {
    const spec = host.spec({ generation: 2 });
    await host.put(spec);
    const first = runtime.started.at(-1)!;
    expect((await host.put({ ...spec, generation: 1 })).json.code).toBe("conflict");
    expect((await host.put({ ...spec, generation: 3 })).json.kind).toBe("launched");
    expect(first.isStopped).toBe(true);
    expect((await host.call("GET", `/v1/sandboxes/${spec.sandbox_id}`)).json).toMatchObject({
      kind: "running",
      generation: 3,
      busy: false,
    });
  });
  test("that cannot start say why", async () => {
    const spec = host.spec({ image: "missing" });
    expect((await host.put(spec)).json).toEqual({ kind: "failed", error: "There is no image missing." });
    expect((await host.call("GET", `/v1/sandboxes/${spec.sandbox_id}`)).json).toEqual({ kind: "gone" });
  });
  test("deleted in their start never run, nor later", async () => {
    runtime.startDelayMs = 100;
    const spec = host.spec();
    const starting = host.put(spec);
    await until(() => host.daemon.containers.isRunning(spec.sandbox_id));
    expect((await host.call("DELETE", `/v1/sandboxes/${spec.sandbox_id}`)).status).toBe(204);
    runtime.startDelayMs = 0;
    expect((await starting).json.code).toBe("sandbox_ended");
    expect(runtime.started.at(-1)!.isStopped).toBe(true);
    expect((await host.put(spec)).json.code).toBe("sandbox_ended");
    expect((await host.put({ ...spec, generation: 2 })).json.kind).toBe("launched");
    expect((await host.call("DELETE", `/v1/sandboxes/${newId("sandbox")}`)).status).toBe(204);
  });
  test("end at their deadline", async () => {
    const sandbox = await host.sandbox({ lifetime_ms: 200 });
    const running = host.exec(sandbox, ["sleep", "60"]);
    const status = async () => (await host.call("GET", sandbox)).json;
    await until(async () => (await status()).kind === "exited");
    expect((await status()).exit).toEqual({ returncode: 124, oom: false, deadline: true });
    expect((await running).returncode).toBe(137);
    expect(
      (await host.send("POST", `${sandbox}/processes`, { process_id: newId("process"), command: ["true"], env: {} }))
        .json.code,
    ).toBe("sandbox_ended");
    expect((await host.call("DELETE", sandbox)).status).toBe(204);
    expect(await status()).toEqual({ kind: "gone" });
  });
  test("left by an earlier daemon are taken over", async () => {
    const left = (lifetime_ms: number) =>
      new ChildContainer({ sandbox_id: newId("sandbox"), generation: 4, lifetime_ms });
    const alive = left(60_000);
    const late = left(0);
    const next = new ChildRuntime();
    next.left = [alive, late];
    const other = await SignedHost.start(next);
    await until(() => late.isStopped);
    const status = async (id: string) => (await other.call("GET", `/v1/sandboxes/${id}`)).json;
    expect(await status(alive.sandboxId)).toMatchObject({ kind: "running", generation: 4 });
    expect(await status(late.sandboxId)).toMatchObject({ kind: "exited", exit: { returncode: 124, deadline: true } });
    await other.daemon.close({ stopContainers: true });
  });
});

describe("processes", () => {
  test("give code and output", async () => {
    const status = await host.exec(box, ["sh", "-c", "cat; echo err >&2; exit 3"], { stdin: btoa("in") });
    expect(status).toMatchObject({ returncode: 3, timed_out: false, stdout_bytes: 2, stderr_bytes: 4 });
    expect([text(status.output?.stdout), text(status.output?.stderr)]).toEqual(["in", "err\n"]);
    expect(status.exited_at).toBeGreaterThan(Date.now() - 5_000);
  });
  test("start once by their id, and are found", async () => {
    const spec = { process_id: newId("process"), command: ["sh", "-c", "echo $$; sleep 0.2"], env: {} };
    const [a, b] = await Promise.all([1, 2].map(() => host.send("POST", `${box}/processes?wait_ms=5000`, spec)));
    expect(a!.json).toEqual(b!.json);
    const found = await host.call("GET", `${box}/processes/${spec.process_id}`);
    expect(found.json).toMatchObject({ returncode: 0 });
    expect(found.json.output).toBeUndefined();
    expect((await host.call("GET", `${box}/processes`)).json).toContainEqual(found.json);
    expect((await host.call("GET", `${box}/processes/${newId("process")}`)).json.code).toBe("process_not_found");
  });
  test("are killed at their timeout, with their group", async () => {
    const status = await host.exec(box, ["sh", "-c", "sleep 50 & echo $!; wait"], { timeout_ms: 100 });
    expect(status).toMatchObject({ returncode: 137, timed_out: true });
    const pid = Number(text(status.output?.stdout));
    await until(() => {
      try {
        return !process.kill(pid, 0);
      } catch {
        return true;
      }
    });
  });
  test("go on when the wait is over, and take signals", async () => {
    const status = await host.exec(box, ["sh", "-c", "echo first; exec sleep 60"], {}, 200);
    expect(status.returncode).toBeNull();
    expect(text(status.output?.stdout)).toBe("first\n");
    expect((await host.call("GET", box)).json.busy).toBe(true);
    const path = `${box}/processes/${status.process_id}`;
    expect((await host.send("POST", `${path}/signal`, { signal: "SIGTERM" })).status).toBe(204);
    expect((await host.call("GET", `${path}?wait_ms=5000`)).json.returncode).toBe(143);
    expect((await host.send("POST", `${path}/signal`, { signal: "SIGTERM" })).status).toBe(204);
    expect((await host.send("POST", `${path}/signal`, { signal: "SIGNOT" })).status).toBe(400);
    expect((await host.call("GET", box)).json.busy).toBe(false);
  });
  test("that say much answer with the first of it", async () => {
    const status = await host.exec(box, ["sh", "-c", "echo first; head -c 4000000 /dev/zero"]);
    expect(status).toMatchObject({ returncode: 0, stdout_bytes: 4_000_006, output: { stdout_truncated: true } });
    const stdout = Buffer.from(status.output!.stdout, "base64");
    expect(stdout.length).toBe(1_048_576);
    expect(stdout.subarray(0, 6).toString()).toBe("first\n");
    const path = `${box}/processes/${status.process_id}/stdout`;
    const expired = await host.call("GET", `${path}?offset=0`);
    expect(expired.json).toMatchObject({ code: "output_expired", status: 410 });
    const oldest = Number(expired.json.oldest_offset);
    expect(oldest).toBeGreaterThan(2_000_000);
    expect((await host.call("GET", `${path}?offset=${oldest}`)).body.length).toBe(4_000_006 - oldest);
    expect((await host.call("GET", `${path}?offset=9999999&follow=true`)).body.length).toBe(0);
  });
  test("are followed from any offset", async () => {
    const status = await host.exec(box, ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], {}, 0);
    const path = `${box}/processes/${status.process_id}/stdout`;
    const [all, tail] = await Promise.all([
      host.call("GET", `${path}?follow=true`),
      host.call("GET", `${path}?follow=true&offset=4`),
    ]);
    expect([all.body.toString(), tail.body.toString()]).toEqual(["1\n2\n3\n", "3\n"]);
  });
  test("lose nothing to a slow reader that still reads", async () => {
    const status = await host.exec(box, ["sh", "-c", "sleep 0.3; head -c 8000000 /dev/zero"], {}, 0);
    const answer = await host.open("GET", `${box}/processes/${status.process_id}/stdout?follow=true`);
    let size = 0;
    for await (const chunk of answer) {
      size += (chunk as Buffer).length;
      if (size < 2_000_000) await new Promise((wake) => setTimeout(wake, 5));
    }
    expect(size).toBe(8_000_000);
  });
  test("do not wait for ever for a reader that stalls", async () => {
    const status = await host.exec(box, ["sh", "-c", "sleep 0.3; head -c 50000000 /dev/zero"], {}, 0);
    const answer = await host.open("GET", `${box}/processes/${status.process_id}/stdout?follow=true`);
    const ended = await host.call("GET", `${box}/processes/${status.process_id}?wait_ms=20000`);
    expect(ended.json.returncode).toBe(0);
    answer.destroy();
  });
});
