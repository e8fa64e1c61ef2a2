import { beforeEach, describe, expect, it } from "vitest";
import { ATTACH_PROTOCOL, BEARER_PROTOCOL_PREFIX, CHANNEL } from "../../src/contract/attach.ts";
import { newId } from "../../src/contract/ids.ts";
import { ADMIN_KEY, call, connectHost, newKey, problemOf, send } from "./client.ts";
import { exec, startSandbox, terminate, withCat } from "./sandboxes.ts";
import { TestSocket, upgrade } from "./socket-client.ts";
import { fakeHost } from "./worker.ts";

const base64url = (text: string) => btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const bearer = (key: string) => BEARER_PROTOCOL_PREFIX + base64url(key);

beforeEach(async () => {
  fakeHost.isDown = false;
  await connectHost();
});

describe("who attaches", () => {
  it("may send the key as a browser does, and gets the protocol alone", async () => {
    const { path } = await withCat();
    const options = { key: null, protocols: [bearer(ADMIN_KEY), ATTACH_PROTOCOL] };
    const response = await upgrade(path, options);
    expect([response.status, response.headers.get("sec-websocket-protocol")]).toEqual([101, ATTACH_PROTOCOL]);
    const client = new TestSocket(response.webSocket!);
    client.send(CHANNEL.stdin, "x");
    await expect.poll(() => client.stdout).toBe("x");
  });

  it("gets no protocol when none is offered", async () => {
    const { path } = await withCat();
    const response = await upgrade(path);
    expect([response.status, response.headers.get("sec-websocket-protocol")]).toEqual([101, null]);
    new TestSocket(response.webSocket!).socket.close(1000);
  });

  it("is refused without a good key", async () => {
    const { path } = await withCat();
    const refusals: [string[], number][] = [
      [[ATTACH_PROTOCOL], 401],
      [[ATTACH_PROTOCOL, bearer("sk-wrong")], 401],
      [[ATTACH_PROTOCOL, `${BEARER_PROTOCOL_PREFIX}%%%`], 401],
      [[ATTACH_PROTOCOL, BEARER_PROTOCOL_PREFIX], 401],
      [[ATTACH_PROTOCOL, bearer((await newKey(["read"])).key)], 403],
      [[ATTACH_PROTOCOL, bearer((await newKey(["write"], "other")).key)], 404],
    ];
    for (const [protocols, status] of refusals) {
      expect(await problemOf(await upgrade(path, { key: null, protocols })), String(protocols)).toMatchObject({
        status,
      });
    }
  });

  it("must speak the protocol, and ask for a socket", async () => {
    const { path } = await withCat();
    for (const protocols of [["v4.channel.k8s.io"], [bearer(ADMIN_KEY)]]) {
      expect(await problemOf(await upgrade(path, { protocols }))).toMatchObject({
        status: 400,
        code: "invalid_request",
      });
    }
    const plain = await problemOf(await call("GET", path));
    expect(plain).toMatchObject({ status: 400, detail: expect.stringContaining("Upgrade: websocket") });
    // The key in a subprotocol is for sockets only.
    const headers = { "sec-websocket-protocol": `${ATTACH_PROTOCOL}, ${bearer(ADMIN_KEY)}` };
    expect(await problemOf(await call("GET", path, { key: null, headers }))).toMatchObject({ status: 401 });
  });

  it("needs a process, and a sandbox that lives", async () => {
    const { path, sandboxId } = await withCat();
    const nobody = `/v1/sandboxes/${sandboxId}/processes/${newId("process")}/attach`;
    expect(await problemOf(await upgrade(nobody))).toMatchObject({ status: 404, code: "process_not_found" });
    const main = `/v1/sandboxes/${sandboxId}/processes/main/attach`;
    expect(await problemOf(await upgrade(main))).toMatchObject({ status: 404, code: "process_not_found" });
    await terminate(sandboxId);
    expect(await problemOf(await upgrade(path))).toMatchObject({ status: 409, code: "sandbox_ended" });
  });

  it("hears that the output at the offset is no longer kept, or that the host is away", async () => {
    const sandboxId = await startSandbox();
    const { process_id } = await exec(sandboxId, { command: ["head", "-c", "20000000", "/dev/zero"] });
    const path = `/v1/sandboxes/${sandboxId}/processes/${process_id}/attach`;
    const problem = await problemOf(await upgrade(path));
    expect(problem).toMatchObject({
      status: 410,
      code: "output_expired",
      oldest_offset: 20_000_000 - 16 * 1024 * 1024,
    });
    fakeHost.isDown = true;
    const away = await upgrade(path);
    expect(away.headers.get("retry-after")).toBeTruthy();
    expect(await problemOf(away)).toMatchObject({ status: 503, code: "backend_unavailable" });
  });

  it("cannot say what the Worker says to the object", async () => {
    const { sandboxId, path } = await withCat();
    const { key } = await newKey(["write"], "other");
    const forged = JSON.stringify({ kind: "exec", environment: "main", acks: false });
    const headers = { "x-sandbar-call": forged, "x-sandbar-port": "80" };
    expect(await problemOf(await upgrade(path, { key, headers }))).toMatchObject({ status: 404 });
    const tunnel = new Request(`http://8080-${sandboxId}.localhost/`, {
      headers: { ...headers, upgrade: "websocket" },
    });
    expect(await problemOf(await send(tunnel))).toMatchObject({ status: 404, code: "not_found" });
  });
});
