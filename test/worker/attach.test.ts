import { evictDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { CHANNEL, CLOSE } from "../../src/contract/attach.ts";
import { call, connectHost } from "./client.ts";
import { exec, getProcess, getSandbox, objectOf, startSandbox, terminate, withCat } from "./sandboxes.ts";
import { TestSocket } from "./socket-client.ts";
import { fakeHost } from "./worker.ts";

beforeEach(async () => {
  fakeHost.isDown = false;
  fakeHost.cutsSockets = false;
  fakeHost.isMute = false;
  await connectHost();
});

describe("attach", () => {
  it("passes input and output, tells the end, and closes", async () => {
    const { path } = await withCat();
    const client = await TestSocket.open(path);
    client.send(CHANNEL.stdin, "binary ");
    client.socket.send(`${String.fromCharCode(CHANNEL.stdin)}and text ü`);
    await expect.poll(() => client.stdout).toBe("binary and text ü");
    client.endStdin();
    await expect.poll(() => client.closed).toEqual({ code: CLOSE.done, reason: "done" });
    expect(client.status).toMatchObject({
      status: "Success",
      process: { returncode: 0, finish_reason: "exited", stdout_bytes: 18, stderr_bytes: 0 },
    });
  });

  it("begins at the offsets that it is asked for", async () => {
    const sandboxId = await startSandbox();
    const { process_id } = await exec(
      sandboxId,
      { command: ["sh", "-c", "echo out; echo err >&2; exit 7"] },
      "?wait=5",
    );
    const path = `/v1/sandboxes/${sandboxId}/processes/${process_id}/attach`;
    const client = await TestSocket.open(`${path}?stdout_offset=2&stderr_offset=4&acks=true`);
    await expect.poll(() => client.closed?.code).toBe(CLOSE.done);
    expect([client.stdout, client.stderr]).toEqual(["t\n", ""]);
    expect(client.status).toMatchObject({
      status: "Failure",
      reason: "NonZeroExitCode",
      details: { causes: [{ reason: "ExitCode", message: "7" }] },
      process: { returncode: 7 },
    });
  });

  it("serves several clients of one process", async () => {
    const { path } = await withCat();
    const [one, two] = [await TestSocket.open(path), await TestSocket.open(path)];
    one.send(CHANNEL.stdin, "1");
    await expect.poll(() => two.stdout).toBe("1");
    two.send(CHANNEL.stdin, "2");
    await expect.poll(() => one.stdout).toBe("12");
    one.socket.close(1000);
    two.send(CHANNEL.stdin, "3");
    await expect.poll(() => two.stdout).toBe("123");
    expect(one.stdout).toBe("12");
    const late = await TestSocket.open(`${path}?stdout_offset=1`);
    await expect.poll(() => late.stdout).toBe("23");
  });

  it("resizes a terminal", async () => {
    const sandboxId = await startSandbox();
    const { process_id } = await exec(sandboxId, { command: ["sh", "-c", "read line; stty size"], pty: {} });
    const client = await TestSocket.open(`/v1/sandboxes/${sandboxId}/processes/${process_id}/attach`);
    client.send(CHANNEL.resize, JSON.stringify({ Width: 132, Height: 50 }));
    client.send(CHANNEL.stdin, "\n");
    await expect.poll(() => client.closed?.code).toBe(CLOSE.done);
    expect(client.stdout).toBe("\r\n50 132\r\n");
  });

  it("survives that the object sleeps", async () => {
    const { sandboxId, path } = await withCat();
    const client = await TestSocket.open(path);
    client.send(CHANNEL.stdin, "before ");
    await expect.poll(() => client.stdout).toBe("before ");
    await evictDurableObject(objectOf(sandboxId));
    client.send(CHANNEL.stdin, "after");
    await expect.poll(() => client.stdout).toBe("before after");
    await evictDurableObject(objectOf(sandboxId));
    client.endStdin();
    await expect.poll(() => client.closed?.code).toBe(CLOSE.done);
    expect(client.status).toMatchObject({ status: "Success" });
  });

  it("is lost with its host, and resumed at the offset", async () => {
    const { path, sandboxId, processId } = await withCat();
    const client = await TestSocket.open(path);
    client.send(CHANNEL.stdin, "kept");
    await expect.poll(() => client.stdout).toBe("kept");
    fakeHost.cutsSockets = true;
    await expect.poll(() => client.closed).toEqual({ code: CLOSE.hostAway, reason: "resume" });
    expect(client.status).toBeUndefined();
    expect((await getProcess(sandboxId, processId)).returncode).toBeNull();
    fakeHost.cutsSockets = false;
    const again = await TestSocket.open(`${path}?stdout_offset=4`);
    again.send(CHANNEL.stdin, "!");
    await expect.poll(() => again.stdout).toBe("!");
  });

  it("lets go of the host when the client has gone", async () => {
    const { path, sandboxId } = await withCat();
    const client = await TestSocket.open(path);
    const before = fakeHost.attached.get(sandboxId);
    client.socket.close(1000);
    await expect.poll(() => [before, fakeHost.attached.get(sandboxId)]).toEqual([1, 0]);
  });

  it("reaches the entrypoint", async () => {
    const sandboxId = await startSandbox({
      entrypoint: ["sh", "-c", "echo hello; sleep 60"],
      pty: { rows: 2, cols: 3 },
    });
    const client = await TestSocket.open(`/v1/sandboxes/${sandboxId}/processes/main/attach`);
    await expect.poll(() => client.stdout).toBe("hello\r\n");
  });
});

describe("the end of the sandbox", () => {
  it("is told by the host", async () => {
    const { path, sandboxId } = await withCat();
    const client = await TestSocket.open(path);
    await terminate(sandboxId);
    await expect.poll(() => client.closed?.code).toBe(CLOSE.done);
    expect(client.status?.process).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
  });

  it("is told by the object where the host says nothing", async () => {
    const { path, sandboxId } = await withCat();
    const client = await TestSocket.open(path);
    fakeHost.isMute = true;
    await terminate(sandboxId);
    expect(client.closed).toBeUndefined();
    await expect.poll(() => client.closed?.code, { timeout: 6000 }).toBe(CLOSE.done);
    expect(client.status?.process).toMatchObject({ returncode: 137, finish_reason: "sandbox_ended" });
    await expect.poll(() => fakeHost.attached.get(sandboxId)).toBe(0);
  });

  it("is told as the loss that it is", async () => {
    const { path, sandboxId } = await withCat();
    const client = await TestSocket.open(path);
    fakeHost.isMute = true;
    fakeHost.forget(sandboxId);
    // Something asks, and the container turns out to be gone.
    await call("POST", `/v1/sandboxes/${sandboxId}/exec`, { json: { command: ["true"] } });
    expect((await getSandbox(sandboxId)).finish_reason).toBe("host_lost");
    await expect.poll(() => client.closed?.code, { timeout: 6000 }).toBe(CLOSE.done);
    expect(client.status?.process).toMatchObject({ returncode: 137, finish_reason: "host_lost" });
  });
});

describe("an attached terminal", () => {
  it("costs nothing while it idles, and idle time begins when it has gone", async () => {
    const sandboxId = await startSandbox({ entrypoint: ["cat"], pty: {}, idle_timeout: 1 });
    const path = `/v1/sandboxes/${sandboxId}/processes/main/attach`;
    const [one, two] = [await TestSocket.open(path), await TestSocket.open(path)];
    const asked = fakeHost.inspections;
    await new Promise((wake) => setTimeout(wake, 2500));
    expect(await getSandbox(sandboxId)).not.toHaveProperty("idle_expires_at");
    one.socket.close(1000);
    await new Promise((wake) => setTimeout(wake, 1500));
    expect(await getSandbox(sandboxId)).toMatchObject({ state: "ready" });
    expect(await getSandbox(sandboxId)).not.toHaveProperty("idle_expires_at");
    expect(fakeHost.inspections).toBe(asked);
    two.socket.close(1000);
    await expect.poll(async () => (await getSandbox(sandboxId)).idle_expires_at).toBeDefined();
    await expect.poll(async () => (await getSandbox(sandboxId)).finish_reason, { timeout: 5000 }).toBe("idle_timeout");
  });

  it("that went down with the object leaves a sandbox that idles", async () => {
    const sandboxId = await startSandbox({ idle_timeout: 2, entrypoint: ["cat"], pty: {} });
    await TestSocket.open(`/v1/sandboxes/${sandboxId}/processes/main/attach`);
    expect(await getSandbox(sandboxId)).not.toHaveProperty("idle_expires_at");
    await evictDurableObject(objectOf(sandboxId), { webSockets: "close" });
    await expect.poll(async () => (await getSandbox(sandboxId)).idle_expires_at).toBeDefined();
  });
});
