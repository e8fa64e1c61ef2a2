import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ATTACH_PROTOCOL, CHANNEL, CLOSE } from "../../src/contract/attach.ts";
import type { ContainerProcess } from "../../src/contract/process.ts";
import { call, connectHost, newKey, problemOf } from "./client.ts";
import { getProcess, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { TestSocket, upgrade } from "./socket-client.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;
let path: string;

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.holdsStarts = false;
  await connectHost();
  sandboxId = await startSandbox();
  path = `/v1/sandboxes/${sandboxId}/exec`;
});

const open = () => TestSocket.open(path, { protocols: [ATTACH_PROTOCOL] });
const request = (socket: TestSocket, json: object) => socket.socket.send(JSON.stringify(json));

describe("exec over a socket", () => {
  it("runs what the first message says, then is as attached", async () => {
    const client = await open();
    request(client, { command: ["cat"], open_stdin: true });
    await expect.poll(() => client.texts.length).toBe(1);
    const process = JSON.parse(client.texts[0]!) as ContainerProcess;
    expect(process).toMatchObject({ sandbox_id: sandboxId, returncode: null, command: ["cat"] });
    const { spec } = fakeHost.containers.get(sandboxId)!.processes.get(process.process_id)!;
    expect(spec.is_followed).toBe(true);
    client.send(CHANNEL.stdin, "hi");
    await expect.poll(() => client.stdout).toBe("hi");
    client.endStdin();
    await expect.poll(() => client.closed?.code).toBe(CLOSE.done);
    expect(client.status).toMatchObject({ status: "Success", process: { returncode: 0 } });
    expect(await getProcess(sandboxId, process.process_id)).toMatchObject({ returncode: 0, finish_reason: "exited" });
  });

  it("keeps what is sent ahead, in order", async () => {
    const client = await open();
    request(client, { command: ["cat"], open_stdin: true });
    for (let index = 0; index < 50; index += 1) client.send(CHANNEL.stdin, `${index},`);
    client.endStdin();
    await expect.poll(() => client.closed?.code).toBe(CLOSE.done);
    expect(client.stdout).toBe(Array.from({ length: 50 }, (_, index) => `${index},`).join(""));
  });

  it("waits for the start of the sandbox, and takes a bounded lot meanwhile", async () => {
    fakeHost.holdsStarts = true;
    const created = await call("POST", "/v1/sandboxes", { json: {} });
    const { sandbox_id } = (await created.json()) as { sandbox_id: string };
    const own = `/v1/sandboxes/${sandbox_id}/exec`;
    const [small, big] = [await TestSocket.open(own), await TestSocket.open(own)];
    for (const client of [small, big]) request(client, { command: ["cat"], open_stdin: true });
    small.send(CHANNEL.stdin, "patience");
    for (let index = 0; index < 5; index += 1) big.send(CHANNEL.stdin, "x".repeat(300_000));
    await expect.poll(() => big.closed?.code).toBe(CLOSE.stdinBacklog);
    expect(small.closed).toBeUndefined();
    fakeHost.holdsStarts = false;
    await expect.poll(() => small.stdout).toBe("patience");
  });

  const refusals: [string, string | ArrayBuffer, string, object?][] = [
    ["no JSON", "{", "invalid_request"],
    ["no object", "[]", "invalid_request"],
    ["bytes", new Uint8Array([0, 1]).buffer, "invalid_request"],
    ["an empty command", '{"command":[]}', "invalid_request", { errors: [{ path: "command" }] }],
    ["an unknown field", '{"command":["true"],"cmd":1}', "invalid_request", { errors: [{ path: "cmd" }] }],
    [
      "__proto__",
      '{"command":["true"],"env":{"__proto__":"x"}}',
      "invalid_request",
      { errors: [{ path: "__proto__" }] },
    ],
    ["too much", JSON.stringify({ command: ["true"], env: { A: "x".repeat(2_100_000) } }), "payload_too_large"],
  ];
  it.each(refusals)("refuses a first message with %s", async (_, message, code, problem = {}) => {
    const client = await open();
    client.socket.send(message);
    await expect.poll(() => client.closed).toEqual({ code: CLOSE.refused, reason: code });
    expect(client.status).toMatchObject({ status: "Failure", reason: code, problem: { code, ...problem } });
    expect(client.status?.message).toBeTruthy();
    expect(client.texts).toEqual([]);
  });

  it("says why nothing runs when the sandbox ends first", async () => {
    const client = await open();
    await terminate(sandboxId);
    request(client, { command: ["true"] });
    await expect.poll(() => client.closed?.code).toBe(CLOSE.refused);
    expect(client.status?.problem).toMatchObject({ code: "sandbox_ended", status: 409 });
    expect(await problemOf(await upgrade(path))).toMatchObject({ status: 409, code: "sandbox_ended" });
  });

  it("says why nothing runs when the host is away", async () => {
    const client = await open();
    fakeHost.isDown = true;
    request(client, { command: ["true"] });
    await expect.poll(() => client.closed?.code, { timeout: 15_000 }).toBe(CLOSE.refused);
    expect(client.status).toMatchObject({ reason: "backend_unavailable" });
  });

  /** Lets the object's timers come to what is due in 31 s. */
  async function thirtySecondsLater(): Promise<void> {
    vi.spyOn(Date, "now").mockReturnValue(Date.now() + 31_000);
    try {
      await runDurableObjectAlarm(objectOf(sandboxId));
    } finally {
      vi.restoreAllMocks();
    }
  }

  it("does not wait for ever for the first message", async () => {
    const client = await open();
    const due = await runInDurableObject(objectOf(sandboxId), (_, state) => state.storage.getAlarm());
    expect(due).toBeGreaterThan(Date.now());
    expect(due).toBeLessThanOrEqual(Date.now() + 30_000);
    await thirtySecondsLater();
    await expect.poll(() => client.closed?.code).toBe(CLOSE.refused);
    expect(client.status).toMatchObject({ reason: "invalid_request" });
  });

  it("is closed when its start went down with the object that was at it", async () => {
    const client = await open();
    // What such an object leaves behind; what its client had sent was in its memory.
    await runInDurableObject(objectOf(sandboxId), (_, state) => {
      for (const socket of state.getWebSockets("client"))
        socket.serializeAttachment({ role: "client", phase: "starting" });
    });
    await thirtySecondsLater();
    await expect.poll(() => client.closed).toMatchObject({ code: CLOSE.hostAway, reason: "resume" });
  });

  it("needs a key that may write, to a sandbox of its environment", async () => {
    expect((await upgrade(path, { key: null })).status).toBe(401);
    expect((await upgrade(path, { key: (await newKey(["read"])).key })).status).toBe(403);
    expect(await problemOf(await upgrade(path, { key: (await newKey(["write"], "other")).key }))).toMatchObject({
      status: 404,
      code: "sandbox_not_found",
    });
    expect((await upgrade(path, { protocols: ["chat"] })).status).toBe(400);
  });
});
