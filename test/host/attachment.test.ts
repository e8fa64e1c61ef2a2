import { afterAll, beforeAll, expect, test } from "vitest";
import { ACK_WINDOW_BYTES, CHANNEL, CLOSE, SILENT_LIMIT_BYTES } from "../../src/contract/attach.ts";
import { CONTROL_PLANE_AUDIENCE, verifyRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { ObjectStandIn, type ObjectSocket } from "./control-plane.ts";
import { embeddedHost, MIB } from "./embedded-host.ts";
import { until, type SignedHost } from "./signed-host.ts";

let object: ObjectStandIn;
let host: SignedHost;
let close: () => Promise<void>;
let box: string;

beforeAll(async () => {
  object = await ObjectStandIn.start();
  ({ host, close } = await embeddedHost({ controlPlaneUrl: object.url }));
  box = await host.sandbox();
}, 30_000);
afterAll(async () => {
  await close();
  object.close();
});

async function attach(processId: string, options: { stdout?: number; acks?: boolean } = {}): Promise<ObjectSocket> {
  const arrived = object.next();
  const answer = await host.send("POST", `${box}/processes/${processId}/attachments`, {
    attachment_id: newId("process").slice("pr-".length),
    stdout_offset: options.stdout ?? 0,
    stderr_offset: 0,
    acks: options.acks ?? false,
  });
  if (answer.status !== 204) throw new Error(answer.body.toString());
  return arrived;
}

const exec = (command: string[], more: object = {}) => host.exec(box, command, more, 0);

test("the host dials back signed, to the path of the attachment", async () => {
  const { process_id } = await exec(["true"]);
  await attach(process_id);
  const request = object.requests.at(-1)!;
  const sandboxId = box.split("/").at(-1);
  expect(request.url).toMatch(new RegExp(`^/v1/hosts/${host.hostId}/attachments/${sandboxId}/[a-z0-9]{22}$`));
  await verifyRequest(host.key, CONTROL_PLANE_AUDIENCE, {
    authorization: request.headers.authorization,
    method: "GET",
    target: request.url!,
  });
});

test("nothing is sent before the client listens; then both outputs, the status and the close", async () => {
  const { process_id } = await exec(["sh", "-c", "echo out; echo err >&2; exit 3"]);
  const socket = await attach(process_id);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(socket.bytes).toBe(0);
  socket.start();
  await until(() => socket.closeOrder !== undefined);
  expect([socket.text, socket.received.stderr.toString()]).toEqual(["out\n", "err\n"]);
  expect(socket.status).toMatchObject({
    status: "Failure",
    reason: "NonZeroExitCode",
    details: { causes: [{ reason: "ExitCode", message: "3" }] },
    process: { returncode: 3, finish_reason: "exited", timed_out: false },
  });
  expect(socket.closeOrder).toEqual({ code: CLOSE.done, reason: "" });
});

test("input goes in, and its channel can be closed", async () => {
  const { process_id } = await exec(["cat"], { open_stdin: true });
  const [one, two] = [await attach(process_id), await attach(process_id, { acks: true })];
  one.start();
  two.start();
  one.send(CHANNEL.stdin, "typed ");
  await until(() => two.text === "typed ");
  two.send(CHANNEL.stdin, "by two");
  await until(() => one.text === "typed by two");
  expect(two.acks).toEqual([{ stdin: 12 }]);
  one.send(CHANNEL.close, Uint8Array.of(CHANNEL.stdin));
  await until(() => one.closeOrder !== undefined && two.closeOrder !== undefined);
  expect(two.status).toMatchObject({ status: "Success", process: { returncode: 0 } });
});

test("a client comes back at its offset", async () => {
  const { process_id } = await exec(["sh", "-c", "echo 12345; sleep 0.3; echo 6789"]);
  const first = await attach(process_id);
  first.start();
  await until(() => first.text === "12345\n");
  first.socket.terminate();
  const second = await attach(process_id, { stdout: 3 });
  second.start();
  await until(() => second.closeOrder !== undefined);
  expect(second.text).toBe("45\n6789\n");
});

test("with acks no more is on its way than the window, and it goes on as they come", async () => {
  const { process_id } = await exec(["head", "-c", String(20 * MIB), "/dev/zero"], { is_followed: true });
  const socket = await attach(process_id, { acks: true });
  socket.keepsBytes = false;
  socket.start();
  await until(() => socket.bytes >= ACK_WINDOW_BYTES - 2 * 65_536);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(socket.bytes).toBeLessThanOrEqual(ACK_WINDOW_BYTES);
  const acking = setInterval(() => socket.send(CHANNEL.ack, JSON.stringify({ stdout: socket.bytes })), 5);
  await until(() => socket.closeOrder !== undefined, 10_000);
  clearInterval(acking);
  expect(socket.bytes).toBe(20 * MIB);
});

test("without acks a silent client is cut at the limit, told where, and has cost that much at most", async () => {
  const { process_id } = await exec(["head", "-c", String(100 * MIB), "/dev/zero"], { is_followed: true });
  let offset = 0;
  let sockets = 0;
  for (; offset < 100 * MIB; sockets++) {
    const socket = await attach(process_id, { stdout: offset });
    socket.keepsBytes = false;
    socket.start();
    await until(() => socket.closeOrder !== undefined, 10_000);
    expect(socket.bytes).toBeLessThanOrEqual(SILENT_LIMIT_BYTES);
    offset += socket.bytes;
    if (offset === 100 * MIB) break;
    expect(socket.closeOrder).toEqual({ code: CLOSE.unacknowledged, reason: `resume at ${offset}.0` });
  }
  expect([offset, sockets]).toEqual([100 * MIB, 3]);
});

test("input that a process does not read is kept up to a bound", async () => {
  const { process_id } = await exec(["sleep", "20"], { open_stdin: true });
  const socket = await attach(process_id);
  socket.start();
  const before = process.memoryUsage().rss;
  for (let index = 0; index < 40; index++) socket.send(CHANNEL.stdin, Buffer.alloc(MIB));
  await until(() => socket.closeOrder !== undefined, 10_000);
  expect(socket.closeOrder).toMatchObject({ code: CLOSE.stdinBacklog });
  expect(process.memoryUsage().rss - before).toBeLessThan(200 * MIB);
  await host.send("POST", `${box}/processes/${process_id}/signal`, { signal: "SIGKILL" });
});

test("input in the smallest pieces costs no more than its bound", async () => {
  const { process_id } = await exec(["sleep", "20"], { open_stdin: true });
  const socket = await attach(process_id);
  socket.start();
  socket.send(CHANNEL.stdin, Buffer.alloc(400_000));
  const before = process.memoryUsage().rss;
  for (let index = 0; index < 100_000 && !socket.closeOrder; index++) {
    socket.send(CHANNEL.stdin, "x");
    if (index % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => socket.closeOrder !== undefined, 20_000);
  expect(socket.closeOrder).toMatchObject({ code: CLOSE.stdinBacklog });
  // This test's own messages count, too.
  expect(process.memoryUsage().rss - before).toBeLessThan(250 * MIB);
  await host.send("POST", `${box}/processes/${process_id}/signal`, { signal: "SIGKILL" });
}, 40_000);

test("a client that acknowledges nothing holds neither output for longer than a moment", async () => {
  const script = "sleep 0.5; head -c 8000000 /dev/zero; sleep 0.5; head -c 60000000 /dev/zero >&2";
  const { process_id } = await exec(["sh", "-c", script]);
  const socket = await attach(process_id, { acks: true });
  socket.keepsBytes = false;
  socket.start();
  const ended = await host.call("GET", `${box}/processes/${process_id}?wait_ms=20000`);
  expect(ended.json).toMatchObject({ returncode: 0, stderr_bytes: 60_000_000 });
  socket.socket.terminate();
}, 40_000);

test("nonsense from a client changes nothing", async () => {
  const { process_id } = await exec(["cat"], { open_stdin: true });
  const socket = await attach(process_id);
  socket.start();
  socket.send(CHANNEL.resize, "no json");
  socket.send(CHANNEL.resize, JSON.stringify({ Width: -1, Height: 10 ** 9 }));
  socket.send(CHANNEL.ack, JSON.stringify({ stdout: 10 ** 12 }));
  socket.send(77, "what?");
  socket.socket.send(Buffer.alloc(0));
  socket.send(CHANNEL.stdin, "still here");
  await until(() => socket.text === "still here");
  socket.send(CHANNEL.close, Uint8Array.of(CHANNEL.stdin));
  await until(() => socket.closeOrder !== undefined);
});

test("what cannot be attached says why", async () => {
  const { process_id } = await exec(["head", "-c", String(40 * MIB), "/dev/zero"]);
  await host.call("GET", `${box}/processes/${process_id}?wait_ms=20000`);
  await expect(attach(process_id)).rejects.toThrow("output_expired");
  await expect(attach(newId("process"))).rejects.toThrow("process_not_found");
}, 40_000);
