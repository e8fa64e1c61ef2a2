import { beforeEach, describe, expect, it } from "vitest";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import { call, connectHost, problemOf } from "./client.ts";
import { getSandbox, startSandbox, terminate } from "./sandboxes.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.holdsStarts = false;
  await connectHost();
});

/** What needs the container: method, path, and what it sends. */
const NEEDY: [string, string, object][] = [
  ["POST", "/exec?wait=5", { json: { command: ["true"] } }],
  ["PUT", "/files?path=/a", { body: "x" }],
  ["GET", "/files?path=/etc/os-release", {}],
  ["GET", "/files/stat?path=/etc", {}],
  ["GET", "/files/list?path=/", {}],
  ["POST", "/files/directories", { json: { path: "/a" } }],
  ["POST", "/files/move", { json: { from: "/etc/os-release", to: "/a" } }],
  ["DELETE", "/files?path=/etc/os-release", {}],
  ["GET", "/files/archive?path=/etc", {}],
  ["PUT", "/files/archive?path=/a", { body: new Uint8Array(1024) }],
  ["GET", "/files/watch?path=/etc", {}],
  ["GET", "/tunnels", {}],
  ["POST", "/snapshot", {}],
];

describe.each(NEEDY)("%s …%s", (method, path, options) => {
  it("sent right after the create waits for the start", async () => {
    fakeHost.holdsStarts = true;
    const created = await call("POST", "/v1/sandboxes", { json: { encrypted_ports: [80] } });
    const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
    let isAnswered = false;
    const answer = call(method, `/v1/sandboxes/${sandboxId}${path}`, options).then((response) => {
      isAnswered = true;
      return response;
    });
    await expect.poll(async () => (await getSandbox(sandboxId)).state).toBe("scheduled");
    await new Promise((wake) => setTimeout(wake, 200));
    expect(isAnswered).toBe(false);
    fakeHost.holdsStarts = false;
    expect((await answer).status).toBeLessThan(300);
  });

  it("is refused at once when the start is given up, and of a sandbox that has ended", async () => {
    fakeHost.holdsStarts = true;
    const created = await call("POST", "/v1/sandboxes", { json: {} });
    const { sandbox_id: sandboxId } = (await created.json()) as Sandbox;
    const waiting = call(method, `/v1/sandboxes/${sandboxId}${path}`, options);
    await expect.poll(async () => (await getSandbox(sandboxId)).state).toBe("scheduled");
    const startedAt = Date.now();
    await terminate(sandboxId);
    expect(await problemOf(await waiting)).toMatchObject({ status: 409, code: "sandbox_ended" });
    fakeHost.holdsStarts = false;
    const ended = await startSandbox();
    await terminate(ended);
    expect(await problemOf(await call(method, `/v1/sandboxes/${ended}${path}`, options))).toMatchObject({
      status: 409,
      code: "sandbox_ended",
    });
    expect(Date.now() - startedAt).toBeLessThan(2000);
    await expect.poll(() => fakeHost.containers.has(sandboxId)).toBe(false);
  });
});
