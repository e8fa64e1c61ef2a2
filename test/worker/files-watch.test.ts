import { beforeEach, describe, expect, it } from "vitest";
import type { WatchEvent } from "../../src/contract/file.ts";
import { eventsOf } from "../backends/events-of.ts";
import { call, connectHost, forgetHosts, HOST_ID, hostInfo, problemOf, reportHost } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
  sandboxId = await startSandbox();
  await files("POST", "/directories", { json: { path: "/w/in", parents: true } });
});

const files = (method: string, rest: string, options = {}) =>
  call(method, `/v1/sandboxes/${sandboxId}/files${rest}`, options);
const isWatched = () => fakeHost.containers.get(sandboxId)!.files.isWatched;
const told = (text: string) => eventsOf(text).map(({ event, data }) => Object.assign({ event }, data) as WatchEvent);

/** The text of a stream, as far as it has come. */
function follow(response: Response) {
  const reader = response.body!.getReader();
  const seen = { text: "", isOver: false, leave: () => reader.cancel() };
  const read = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      seen.text += new TextDecoder().decode(value);
    }
    seen.isOver = true;
  };
  // Whoever leaves has no end of it.
  read().catch(() => undefined);
  return seen;
}

describe("a watch", () => {
  it("begins with ready, tells what happens, and ends when what it watches is gone", async () => {
    const response = await files("GET", "/watch?path=/w&recursive=true");
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    expect(response.headers.get("cache-control")).toBe("no-store");
    const seen = follow(response);
    await expect.poll(() => told(seen.text)).toEqual([{ event: "ready", path: "/w" }]);
    await files("PUT", "?path=/w/in/a", { body: "1" });
    await files("PUT", "?path=/w/in/a", { body: "2" });
    await files("POST", "/move", { json: { from: "/w/in/a", to: "/w/b" } });
    await files("DELETE", "?path=/w/b");
    await files("DELETE", "?path=/w&recursive=true");
    await expect.poll(() => seen.isOver).toBe(true);
    expect(told(seen.text)).toEqual([
      { event: "ready", path: "/w" },
      { event: "create", path: "/w/in/a" },
      { event: "modify", path: "/w/in/a" },
      { event: "rename", path: "/w/b", from: "/w/in/a" },
      { event: "remove", path: "/w/b" },
      { event: "remove", path: "/w/in" },
      { event: "remove", path: "/w" },
    ]);
    expect(isWatched()).toBe(false);
  });

  it("stays with the directory itself unless it is to go below", async () => {
    const shallow = follow(await files("GET", "/watch?path=/w"));
    await files("PUT", "?path=/w/in/below", { body: "x" });
    await files("PUT", "?path=/w/beside", { body: "x" });
    await expect.poll(() => told(shallow.text).at(-1)).toEqual({ event: "create", path: "/w/beside" });
    expect(told(shallow.text)).toHaveLength(2);
    await shallow.leave();
  });

  it("ends with the sandbox", async () => {
    const seen = follow(await files("GET", "/watch?path=/w"));
    await expect.poll(() => seen.text).not.toBe("");
    await terminate(sandboxId);
    await expect.poll(() => seen.isOver).toBe(true);
    expect(told(seen.text)).toHaveLength(1);
  });

  it("is let go of when its client leaves, and for HEAD at once", async () => {
    const head = await files("HEAD", "/watch?path=/w");
    expect([head.status, head.headers.get("content-type"), await head.text()]).toEqual([200, "text/event-stream", ""]);
    await expect.poll(isWatched).toBe(false);
    const seen = follow(await files("GET", "/watch?path=/w"));
    await expect.poll(() => seen.text).not.toBe("");
    expect(isWatched()).toBe(true);
    await seen.leave();
    await expect.poll(isWatched).toBe(false);
  });

  it("is a use of the sandbox until its client leaves", async () => {
    sandboxId = await startSandbox({ idle_timeout: 1 });
    const seen = follow(await files("GET", "/watch?path=/etc"));
    await new Promise((wake) => setTimeout(wake, 2500));
    expect((await getSandbox(sandboxId)).state).toBe("ready");
    await seen.leave();
    await expect.poll(async () => (await getSandbox(sandboxId)).finish_reason, { timeout: 4000 }).toBe("idle_timeout");
  });

  it.each([
    ["/nope", "file_not_found"],
    ["/etc/os-release/x", "not_a_directory"],
  ])("of %s is %s, before it begins", async (path, code) => {
    expect(await problemOf(await files("GET", `/watch?path=${path}`))).toMatchObject({ code });
  });
});

const UPLOAD = { what: "archive", path: "/etc", options: { size: 1 } };

describe.each([
  ["watchFiles", ["/etc", false], { kind: "stream" }],
  ["readArchive", ["/etc"], { kind: "stream" }],
  ["uploadTarget", [UPLOAD], undefined],
] as const)("%s that failed at the host", (method, args, value) => {
  const again = (failure: "sandbox_ended" | "backend_unavailable") => {
    const object = objectOf(sandboxId) as unknown as Record<string, (...all: unknown[]) => Promise<object>>;
    return object[method]!({ environment: "main" }, ...args, failure);
  };

  it("is told as it failed while nothing is new", async () => {
    for (const failure of ["sandbox_ended", "backend_unavailable"] as const)
      expect(await again(failure)).toMatchObject({ ok: false, code: failure });
  });

  it("is asked for anew where the host has another key by now", async () => {
    await reportHost({ url: "http://127.0.0.1:9", info: hostInfo(HOST_ID), containers: [] }, Date.now(), 2);
    try {
      expect(await again("backend_unavailable")).toMatchObject({ ok: true, value });
    } finally {
      await forgetHosts();
    }
  });

  it("tells how the sandbox ended", async () => {
    await terminate(sandboxId);
    const reply = await again("sandbox_ended");
    expect(reply).toMatchObject({ ok: false, code: "sandbox_ended" });
    expect((reply as { options: { detail: string } }).options.detail).toContain("terminated");
  });
});
