import { beforeEach, describe, expect, it } from "vitest";
import type { ContainerProcess } from "../../src/contract/process.ts";
import { eventsOf } from "../backends/events-of.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { exec, startSandbox } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
  sandboxId = await startSandbox();
});

const processPath = (processId: string, rest = "") => `/v1/sandboxes/${sandboxId}/processes/${processId}${rest}`;
const textOf = async (processId: string, rest: string, headers = {}) =>
  (await call("GET", processPath(processId, rest), { headers })).text();
const stdin = (processId: string, query: string, body?: BodyInit) =>
  call("POST", processPath(processId, `/stdin${query}`), body === undefined ? {} : { body });
const cat = async () => (await exec(sandboxId, { command: ["cat"], open_stdin: true })).process_id;

describe("output", () => {
  it("is the bytes, as a download that no browser takes for a page", async () => {
    const { process_id } = await exec(sandboxId, { command: ["sh", "-c", "echo out; echo err >&2"] });
    for (const method of ["GET", "HEAD"]) {
      const response = await call(method, processPath(process_id, "/stdout?follow=true"));
      expect(response.status).toBe(200);
      expect(Object.fromEntries(response.headers)).toMatchObject({
        "content-type": "application/octet-stream",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox",
        "cache-control": "no-store",
      });
      expect(await response.text()).toBe(method === "GET" ? "out\n" : "");
    }
    expect(await textOf(process_id, "/stdout?offset=1")).toBe("ut\n");
    expect(await textOf(process_id, "/stderr")).toBe("err\n");
  });

  it("is exact", async () => {
    const content = crypto.getRandomValues(new Uint8Array(60_000));
    const processId = await cat();
    expect((await stdin(processId, "?eof=true", content)).status).toBe(200);
    const response = await call("GET", processPath(processId, "/stdout?follow=true"));
    expect(new Uint8Array(await response.arrayBuffer())).toEqual(content);
  });

  it("is followed while it comes, by many, and never holds a HEAD up", async () => {
    const processId = await cat();
    const followers = [0, 0, 3].map((offset) => textOf(processId, `/stdout?follow=true&offset=${offset}`));
    expect((await call("HEAD", processPath(processId, "/stdout?follow=true"))).status).toBe(200);
    for (const part of ["one ", "two ", "three"]) await stdin(processId, "", part);
    expect(await textOf(processId, "/stdout?follow=false")).toBe("one two three");
    await stdin(processId, "?eof=true");
    expect(await Promise.all(followers)).toEqual(["one two three", "one two three", " two three"]);
  });

  it("is 410 where it has left the window, with the oldest offset", async () => {
    const { process_id } = await exec(sandboxId, { command: ["head", "-c", "20000000", "/dev/zero"] });
    const oldest_offset = 20_000_000 - 16 * 1024 * 1024;
    const problem = await problemOf(await call("GET", processPath(process_id, "/stdout")));
    expect(problem).toMatchObject({ status: 410, code: "output_expired", oldest_offset });
    const rest = await call("GET", processPath(process_id, `/stdout?offset=${oldest_offset}`));
    expect((await rest.arrayBuffer()).byteLength).toBe(16 * 1024 * 1024);
    const events = await problemOf(await call("GET", processPath(process_id, "/events")));
    expect(events).toMatchObject({ status: 410, code: "output_expired", oldest_offset });
  });
});

describe("events", () => {
  it("tell all, and resume by header or query", async () => {
    const { process_id } = await exec(sandboxId, { command: ["sh", "-c", "echo out; echo err >&2; exit 3"] });
    const response = await call("GET", processPath(process_id, "/events"));
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    expect(response.headers.get("cache-control")).toBe("no-store");
    const events = eventsOf(await response.text());
    expect(events.map(({ event, id }) => [event, id])).toEqual([
      ["stdout", "4.0"],
      ["stderr", "4.4"],
      ["exit", "4.4"],
    ]);
    expect(events.at(-1)?.data).toMatchObject({ returncode: 3, finish_reason: "exited", stdout_bytes: 4 });
    const header = await textOf(process_id, "/events?last_event_id=0.0", { "last-event-id": "4.0" });
    expect(eventsOf(header)).toEqual(events.slice(1));
    expect(eventsOf(await textOf(process_id, "/events?last_event_id=4.4"))).toEqual(events.slice(2));
  });

  it.each(["", "x", "1", "1.2.3", "-1.0", "0x1.0"])("refuse the last event id %j", async (id) => {
    const { process_id } = await exec(sandboxId, { command: ["true"] });
    const response = await call("GET", processPath(process_id, "/events"), { headers: { "last-event-id": id } });
    expect(await problemOf(response)).toMatchObject({ status: 400, errors: [{ path: "Last-Event-ID" }] });
  });
});

describe("exec as events", () => {
  const stream = (json: object, query = "", accept = "text/event-stream") =>
    call("POST", `/v1/sandboxes/${sandboxId}/exec${query}`, { json, headers: { accept } });

  it("tells of the process first, then what it does", async () => {
    const response = await stream({ command: ["sh", "-c", "echo one; sleep 0.2; echo two"] });
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const events = eventsOf(await response.text());
    expect(events.map(({ event }) => event)).toEqual(["process", "stdout", "stdout", "exit"]);
    expect(events[0]!.id).toBeUndefined();
    const process = events[0]!.data as unknown as ContainerProcess;
    const { spec } = fakeHost.containers.get(sandboxId)!.processes.get(process.process_id)!;
    expect(spec.is_followed).toBe(true);
    expect(process).toMatchObject({ sandbox_id: sandboxId, command: ["sh", "-c", "echo one; sleep 0.2; echo two"] });
    expect(eventsOf(await textOf(process.process_id, `/events?last_event_id=${events[1]!.id}`))).toEqual(
      events.slice(2),
    );
  });

  it("outlives its client", async () => {
    const response = await stream(
      { command: ["cat"], open_stdin: true },
      "",
      "application/json, text/event-stream;q=0.9",
    );
    const reader = response.body!.getReader();
    const [first] = eventsOf(new TextDecoder().decode((await reader.read()).value));
    await reader.cancel();
    const { process_id } = first!.data as unknown as ContainerProcess;
    await stdin(process_id, "?eof=true", "still there");
    expect(await textOf(process_id, "/stdout?follow=true")).toBe("still there");
  });

  it.each(["wait=1", "encoding=base64"])("does not go with ?%s", async (query) => {
    const problem = await problemOf(await stream({ command: ["true"] }, `?${query}`));
    expect(problem).toMatchObject({ status: 400, errors: [{ path: query.split("=")[0] }] });
  });

  it("answers what is wrong as a problem", async () => {
    expect(await problemOf(await stream({ command: [] }))).toMatchObject({ status: 400 });
    fakeHost.isDown = true;
    expect(await problemOf(await stream({ command: ["true"] }))).toMatchObject({ status: 503 });
  });
});

describe("stdin", () => {
  it("is added to by offset, never twice, and ended", async () => {
    const processId = await cat();
    const state = async (query: string, body?: BodyInit) => (await stdin(processId, query, body)).json();
    expect(await state("", "abc")).toEqual({ offset: 3, closed: false });
    expect(await state("?offset=0", "abc")).toEqual({ offset: 3, closed: false });
    expect(await state("?offset=2", "cde")).toEqual({ offset: 5, closed: false });
    expect(await state("?offset=5")).toEqual({ offset: 5, closed: false });
    const gap = await problemOf(await stdin(processId, "?offset=6", "x"));
    expect(gap).toMatchObject({ status: 409, code: "stdin_gap", offset: 5 });
    expect(await state("?offset=3&eof=true", "def")).toEqual({ offset: 6, closed: true });
    expect(await textOf(processId, "/stdout?follow=true")).toBe("abcdef");
    expect(await problemOf(await stdin(processId, "", "x"))).toMatchObject({ status: 409, code: "process_ended" });
  });

  it("streams", async () => {
    const processId = await cat();
    let isSent = false;
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const answer = stdin(processId, "?eof=true", readable);
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode("first "));
    await expect.poll(() => textOf(processId, "/stdout")).toBe("first ");
    expect(isSent).toBe(false);
    isSent = true;
    await writer.write(new TextEncoder().encode("last"));
    await writer.close();
    expect(await (await answer).json()).toEqual({ offset: 10, closed: true });
    expect(await textOf(processId, "/stdout?follow=true")).toBe("first last");
  });

  it("is refused where it was never open", async () => {
    const { process_id } = await exec(sandboxId, { command: ["sleep", "60"] });
    expect(await problemOf(await stdin(process_id, "", "x"))).toMatchObject({ status: 409, code: "stdin_closed" });
  });
});

describe("resize", () => {
  const SIZE = { rows: 24, cols: 80 };

  it("says both, or nothing changes", async () => {
    expect(await problemOf(await resize(await cat(), { rows: 50 }))).toMatchObject({
      status: 400,
      errors: [{ path: "cols" }],
    });
  });

  const resize = (processId: string, json: object) => call("POST", processPath(processId, "/resize"), { json });

  it("changes the terminal's size", async () => {
    const { process_id } = await exec(sandboxId, { command: ["sh", "-c", "read line; stty size"], pty: {} });
    expect((await resize(process_id, { rows: 50, cols: 132 })).status).toBe(204);
    await stdin(process_id, "", "\n");
    expect(await textOf(process_id, "/stdout?follow=true")).toBe("\r\n50 132\r\n");
    expect((await call("GET", processPath(process_id))).status).toBe(200);
    expect(await problemOf(await resize(process_id, SIZE))).toMatchObject({ status: 409, code: "process_ended" });
  });

  it("needs a terminal", async () => {
    expect(await problemOf(await resize(await cat(), SIZE))).toMatchObject({ status: 409, code: "not_a_terminal" });
  });
});
