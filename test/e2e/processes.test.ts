import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Attached } from "./attached.ts";
import { allEvents, eventsOf, outputOf } from "./event-stream.ts";
import { Instance, sleep, type ProcessView } from "./instance.ts";
import { limitNewestContainer } from "./local-containers.ts";
import { RUNTIMES } from "./runtimes.ts";

/** Every row of the table of processes, over HTTP and WebSocket, on real containers. */
describe.each(RUNTIMES)("processes on the %s runtime", (runtime) => {
  let instance: Instance;
  let sandboxId: string;
  beforeAll(async () => {
    instance = await Instance.start(runtime);
    sandboxId = await instance.create({ timeout: 900 });
    await instance.until(sandboxId, ["ready"]);
  });
  afterAll(() => instance?.remove());

  const at = (processId: string, rest = "") => `/sandboxes/${sandboxId}/processes/${processId}${rest}`;
  const start = async (command: string[], more: object = {}) =>
    (await instance.call<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, { command, ...more }))
      .process_id;
  const ended = (processId: string) => instance.call<ProcessView>("GET", at(processId, "?wait=15"));
  const codeOf = async (response: Response) => [response.status, ((await response.json()) as { code: string }).code];

  it("lists processes by page and waits for one", async () => {
    const ids = [await start(["sleep", "0.3"]), await start(["true"]), await start(["false"])];
    expect(await ended(ids[0]!)).toMatchObject({ returncode: 0, finish_reason: "exited", command: ["sleep", "0.3"] });
    expect(await ended(ids[2]!)).toMatchObject({ returncode: 1 });
    const listed: string[] = [];
    for (let cursor = ""; ;) {
      const page = await instance.call<{ data: ProcessView[]; next_cursor?: string }>(
        "GET",
        `/sandboxes/${sandboxId}/processes?limit=2${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
      );
      expect(page.data.length).toBeLessThanOrEqual(2);
      listed.push(...page.data.map(({ process_id }) => process_id));
      if (!page.next_cursor) break;
      cursor = page.next_cursor;
    }
    expect(listed).toEqual(expect.arrayContaining(ids));
    expect(new Set(listed).size).toBe(listed.length);
    const early = await instance.call<ProcessView>("GET", at(await start(["sleep", "5"]), "?wait=0.2"));
    expect(early.returncode).toBeNull();
  });

  it("gives output by offset, and follows it", async () => {
    const id = await start(["sh", "-c", "printf abc; sleep 0.4; printf '\\377\\000def'; printf err >&2"]);
    const followed = await instance.fetch(at(id, "/stdout?offset=1&follow=true"));
    expect(followed.headers.get("content-type")).toBe("application/octet-stream");
    expect(Buffer.from(await followed.arrayBuffer()).toString("latin1")).toBe("bc\xff\0def");
    expect(await (await instance.fetch(at(id, "/stderr"))).text()).toBe("err");
    expect(await codeOf(await instance.fetch(at(id, "/stdout?offset=-1")))).toEqual([400, "invalid_request"]);
    expect(await codeOf(await instance.fetch(at("pr-aaaaaaaaaaaaaaaaaaaaaa", "/stdout")))).toEqual([
      404,
      "process_not_found",
    ]);
  });

  it("says from where output is kept when what was asked for has gone", async () => {
    const id = (await instance.exec(sandboxId, ["head", "-c", "40000000", "/dev/zero"])).process_id;
    const gone = await instance.fetch(at(id, "/stdout?offset=0"));
    const problem = (await gone.json()) as { code: string; oldest_offset: number };
    expect([gone.status, problem.code]).toEqual([410, "output_expired"]);
    const rest = await instance.fetch(at(id, `/stdout?offset=${problem.oldest_offset}`));
    expect((await rest.arrayBuffer()).byteLength).toBe(40_000_000 - problem.oldest_offset);
  });

  it("streams events, and resumes them at Last-Event-ID", async () => {
    const id = await start(["sh", "-c", "echo one; sleep 0.3; echo two >&2; sleep 0.3; echo three; exit 4"]);
    const first = [];
    for await (const event of eventsOf(await instance.fetch(at(id, "/events")))) {
      first.push(event);
      if (event.event === "stderr") break;
    }
    expect(outputOf(first, "stdout")).toBe("one\n");
    const resumed = await instance.fetch(at(id, "/events"), { headers: { "last-event-id": first.at(-1)!.id! } });
    expect(resumed.headers.get("content-type")).toMatch(/^text\/event-stream/);
    const rest = await allEvents(resumed);
    expect([outputOf(rest, "stdout"), outputOf(rest, "stderr")]).toEqual(["three\n", ""]);
    expect(rest.at(-1)).toMatchObject({ event: "exit", data: { returncode: 4, finish_reason: "exited" } });
    const bad = await instance.fetch(at(id, "/events"), { headers: { "last-event-id": "yesterday" } });
    expect(await codeOf(bad)).toEqual([400, "invalid_request"]);
  });

  it("streams an exec that asks for it", async () => {
    const response = await instance.fetch(`/sandboxes/${sandboxId}/exec`, {
      method: "POST",
      body: JSON.stringify({ command: ["sh", "-c", "sleep 0.5; echo hello; exit 2"] }),
      headers: { accept: "text/event-stream" },
    });
    const events = await allEvents(response);
    expect(events[0]).toMatchObject({ event: "process", data: { sandbox_id: sandboxId, returncode: null } });
    expect(outputOf(events, "stdout")).toBe("hello\n");
    expect(events.at(-1)).toMatchObject({ event: "exit", data: { returncode: 2 } });
  });

  it("takes stdin by offset, with an end", async () => {
    const id = await start(["cat"], { open_stdin: true });
    const give = (query: string, body?: string) =>
      instance.fetch(at(id, `/stdin${query}`), {
        method: "POST",
        ...(body !== undefined && { body, headers: { "content-type": "application/octet-stream" } }),
      });
    expect(await (await give("?offset=0", "hello ")).json()).toEqual({ offset: 6, closed: false });
    expect(await (await give("?offset=0", "hello world")).json()).toEqual({ offset: 11, closed: false });
    expect(await codeOf(await give("?offset=99", "x"))).toEqual([409, "stdin_gap"]);
    expect(await (await give("?eof=true")).json()).toEqual({ offset: 11, closed: true });
    expect(await ended(id)).toMatchObject({ returncode: 0, stdout_bytes: 11 });
    expect(await (await instance.fetch(at(id, "/stdout"))).text()).toBe("hello world");
  });

  it("signals and kills the whole group", async () => {
    const script = "trap 'echo caught; exit 9' TERM; sleep 4243 & wait";
    const caught = await start(["sh", "-c", script]);
    await sleep(300);
    await instance.call("POST", at(caught, "/signal"), { signal: "SIGTERM" });
    expect(await ended(caught)).toMatchObject({ returncode: 9 });
    const killed = await start(["sh", "-c", "sh -c 'sleep 4243 & sleep 4243' & sleep 4243"]);
    await sleep(300);
    await instance.call("DELETE", at(killed));
    expect(await ended(killed)).toMatchObject({ returncode: 137, signal: "SIGKILL", finish_reason: "signaled" });
    const count = 'for p in /proc/[0-9]*; do tr "\\0" " " < $p/cmdline; echo; done 2>/dev/null | grep -c "^sleep 4243"';
    expect(await instance.exec(sandboxId, ["sh", "-c", count])).toMatchObject({ stdout: "0\n" });
  });

  it("attaches a terminal: a shell, its size, Ctrl-C, two clients", async () => {
    const id = await start(["sh", "-i"], { pty: { rows: 24, cols: 80 }, env: { PS1: "$ " } });
    const terminal = await Attached.open(instance, at(id, "/attach"), "browser");
    expect(terminal.socket.protocol).toBe("v5.channel.k8s.io");
    await terminal.sees("$ ");
    terminal.type("stty size; tty\n");
    await terminal.sees("24 80");
    await terminal.sees(/\/dev\/pts\/\d/);
    terminal.resize(50, 132);
    await sleep(200);
    terminal.type("stty size\n");
    await terminal.sees("50 132");
    await instance.call("POST", at(id, "/resize"), { rows: 30, cols: 90 });
    terminal.type("stty size\n");
    await terminal.sees("30 90");
    terminal.type("sleep 4244\n");
    await sleep(300);
    terminal.type("\x03");
    terminal.type("echo again $((40 + 2))\n");
    await terminal.sees("again 42");
    // Two clients see the same screen.
    const second = await Attached.open(instance, at(id, "/attach"));
    await second.sees("again 42");
    second.type("exit 3\n");
    expect(await terminal.end()).toEqual({ code: 1000, reason: "" });
    expect(terminal.status).toMatchObject({ status: "Failure", process: { returncode: 3, finish_reason: "exited" } });
    await second.end();
    expect(
      await codeOf(
        await instance.fetch(at(id, "/resize"), { method: "POST", body: JSON.stringify({ rows: 1, cols: 1 }) }),
      ),
    ).toEqual([409, "process_ended"]);
  });

  it("runs a full-screen program on it", async (test) => {
    const busybox = runtime === "docker" ? "/.sandbar/busybox" : "busybox";
    const { returncode } = await instance.exec(sandboxId, [busybox, "true"]);
    if (returncode === 127) test.skip("this machine has no busybox, whose vi it would be");
    const id = await start([busybox, "vi", "/tmp/edited"], { pty: { rows: 24, cols: 80 } });
    const terminal = await Attached.open(instance, at(id, "/attach"));
    // It draws the lines that are not there, and moves the cursor about.
    await terminal.sees("\x1b[");
    terminal.type("ihello from vi\x1b");
    // An escape right before other keys would be the beginning of a key of its own.
    await sleep(300);
    terminal.type(":wq\r");
    expect((await terminal.end()).code).toBe(1000);
    expect(await instance.exec(sandboxId, ["cat", "/tmp/edited"])).toMatchObject({ stdout: "hello from vi\n" });
  });

  it("execs over one socket", async () => {
    const socket = await Attached.open(instance, `/sandboxes/${sandboxId}/exec`);
    socket.socket.send(JSON.stringify({ command: ["sh", "-c", "cat; echo err >&2; exit 7"], open_stdin: true }));
    socket.type("through the socket");
    socket.endInput();
    expect((await socket.end()).code).toBe(1000);
    expect([socket.text, socket.stderr.toString()]).toEqual(["through the socket", "err\n"]);
    expect(socket.status).toMatchObject({ process: { returncode: 7 } });
    expect(await ended(socket.started!.process_id)).toMatchObject({ returncode: 7 });
    const refused = await Attached.open(instance, `/sandboxes/${sandboxId}/exec`);
    refused.socket.send(JSON.stringify({ command: [], oops: 1 }));
    expect((await refused.end()).code).toBe(4400);
    expect(refused.status).toMatchObject({ status: "Failure", reason: "invalid_request" });
  });

  it("lets a client come back at its offset, after it was gone", async () => {
    const id = await start(["sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.2; done"]);
    const first = await Attached.open(instance, at(id, "/attach"));
    await first.sees("line 2");
    first.socket.terminate();
    const offset = first.stdout.length;
    const second = await Attached.open(instance, at(id, `/attach?stdout_offset=${offset}`));
    await second.end();
    expect(first.text + second.text).toBe([1, 2, 3, 4, 5, 6].map((line) => `line ${line}\n`).join(""));
  });

  it("runs as another user, where the machine can", async () => {
    const response = await instance.fetch(`/sandboxes/${sandboxId}/exec?wait=10`, {
      method: "POST",
      body: JSON.stringify({ command: ["id", "-u"], user: "nobody" }),
    });
    const body = (await response.json()) as Record<string, unknown>;
    if (response.status === 422) expect(body).toMatchObject({ errors: [{ path: "user" }] });
    else expect(body).toMatchObject({ stdout: "65534\n" });
  });

  it("discards what is ignored, and refuses what does not go together", async () => {
    const command = ["sh", "-c", "head -c 5000000 /dev/zero; echo err >&2"];
    const status = await instance.exec(sandboxId, command, { stdout: "ignore" });
    expect(status).toMatchObject({ returncode: 0, stdout: "", stderr: "err\n" });
    const both = await instance.fetch(`/sandboxes/${sandboxId}/exec`, {
      method: "POST",
      body: JSON.stringify({ command: ["true"], pty: {}, stderr: "ignore" }),
    });
    expect(both.status).toBe(400);
    expect(await both.json()).toMatchObject({ errors: [{ path: "stderr" }] });
  });

  it("has the entrypoint as the process `main`, also after the end", async () => {
    const script = "echo started; echo trouble >&2; until [ -e /tmp/go ]; do sleep 0.05; done; echo done; exit 6";
    const other = await instance.create({ entrypoint: ["sh", "-c", script], tags: { of: "main" } });
    await instance.until(other, ["ready"]);
    const main = `/sandboxes/${other}/processes/main`;
    expect(await instance.call("GET", main)).toMatchObject({ returncode: null, command: ["sh", "-c", script] });
    const followed = instance.fetch(`${main}/stdout?follow=true`);
    await instance.exec(other, ["touch", "/tmp/go"]);
    expect(await (await followed).text()).toBe("started\ndone\n");
    expect(await instance.until(other, ["finished"])).toMatchObject({ returncode: 6, finish_reason: "exited" });
    expect(await instance.call("GET", main)).toMatchObject({ returncode: 6, finish_reason: "exited" });
    expect(await (await instance.fetch(`${main}/stderr`)).text()).toBe("trouble\n");
    const exec = await instance.fetch(`/sandboxes/${other}/exec`, {
      method: "POST",
      body: JSON.stringify({ command: ["true"] }),
    });
    expect(await codeOf(exec)).toEqual([409, "sandbox_ended"]);
  });

  it("tells out of memory apart", async (test) => {
    const created = await instance.fetch("/sandboxes", { method: "POST", body: JSON.stringify({ memory: 64 }) });
    if (created.status === 422) test.skip("this machine cannot limit memory");
    const { sandbox_id: small } = (await created.json()) as { sandbox_id: string };
    // The local platform sets no limits; the real one has a machine of the size for each.
    if (runtime === "cloudflare") await limitNewestContainer(instance, small, 64 * 1_048_576);
    const hungry = await instance.exec(small, ["perl", "-e", "$x = 'a' x 300_000_000; sleep 5"]);
    expect(hungry).toMatchObject({ returncode: 137, finish_reason: "oom" });
    const events = await allEvents(await instance.fetch(`/sandboxes/${small}/processes/${hungry.process_id}/events`));
    expect(events.at(-1)).toMatchObject({ event: "exit", data: { finish_reason: "oom", returncode: 137 } });
    const killed = await instance.exec(small, ["sh", "-c", "kill -KILL $$"]);
    expect(killed).toMatchObject({ returncode: 137, finish_reason: "signaled" });
  });

  it("tells every other way apart in which a stream can end", async () => {
    const lastEvent = async (sandbox: string, processId: string) =>
      (await allEvents(await instance.fetch(`/sandboxes/${sandbox}/processes/${processId}/events`))).at(-1);
    const reason = (finish_reason: string, more: object = {}) => ({ event: "exit", data: { finish_reason, ...more } });
    expect(await lastEvent(sandboxId, await start(["true"]))).toMatchObject(reason("exited", { returncode: 0 }));
    const killed = await start(["sleep", "600"]);
    const watching = lastEvent(sandboxId, killed);
    await instance.call("DELETE", at(killed));
    expect(await watching).toMatchObject(reason("signaled", { returncode: 137, signal: "SIGKILL" }));
    const late = await start(["sleep", "600"], { timeout: 1 });
    expect(await lastEvent(sandboxId, late)).toMatchObject(reason("timeout", { timed_out: true }));
    const small = await instance.create();
    const path = `/sandboxes/${small}/exec`;
    const last = await instance.call<{ process_id: string }>("POST", path, { command: ["sleep", "600"] });
    const attached = await Attached.open(instance, `/sandboxes/${small}/processes/${last.process_id}/attach`);
    const events = lastEvent(small, last.process_id);
    await sleep(300);
    await instance.call("DELETE", `/sandboxes/${small}`);
    expect(await events).toMatchObject(reason("sandbox_ended"));
    expect((await attached.end()).code).toBe(1000);
    expect(attached.status).toMatchObject({ process: { finish_reason: "sandbox_ended" } });
    expect(await instance.call("GET", `/sandboxes/${small}/processes/${last.process_id}`)).toMatchObject({
      returncode: 137,
      finish_reason: "sandbox_ended",
    });
  });

  it("keeps a sandbox that is used, and no other", async () => {
    const sleeper = { idle_timeout: 2, entrypoint: ["sleep", "100"], timeout: 120 };
    const [attached, unused, working, entrypoint] = await Promise.all([
      instance.create(sleeper),
      instance.create({ idle_timeout: 2 }),
      instance.create({ idle_timeout: 2 }),
      instance.create(sleeper),
    ]);
    const terminal = await Attached.open(instance, `/sandboxes/${attached}/processes/main/attach`);
    await instance.call("POST", `/sandboxes/${working}/exec`, { command: ["sleep", "6"] });
    await sleep(5_000);
    // The entrypoint's own work keeps nothing.
    expect(await instance.sandbox(entrypoint)).toMatchObject({ finish_reason: "idle_timeout" });
    expect(await instance.sandbox(unused)).toMatchObject({ finish_reason: "idle_timeout" });
    expect((await instance.sandbox(working)).state).toBe("ready");
    expect((await instance.sandbox(attached)).state).toBe("ready");
    terminal.socket.close();
    expect(await instance.until(attached, ["terminated"], 15_000)).toMatchObject({ finish_reason: "idle_timeout" });
    expect(await instance.until(working, ["terminated"], 15_000)).toMatchObject({ finish_reason: "idle_timeout" });
  });
});
