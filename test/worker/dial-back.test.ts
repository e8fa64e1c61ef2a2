import { env, runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { attachmentPath, CHANNEL } from "../../src/contract/attach.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, signRequest } from "../../src/contract/host-token.ts";
import { newId } from "../../src/contract/ids.ts";
import { connectHost, HOST_ID, problemOf } from "./client.ts";
import { exec, objectOf, startSandbox } from "./sandboxes.ts";
import { TestSocket, upgrade } from "./socket-client.ts";

const OTHER_HOST_ID = "ho-bbbbbbbbbbbbbbbbbbbbbb";

let sandboxId: string;
let client: TestSocket;
let attachmentId: string;

beforeEach(async () => {
  await connectHost();
  sandboxId = await startSandbox();
  const { process_id } = await exec(sandboxId, { command: ["cat"], open_stdin: true });
  client = await TestSocket.open(`/v1/sandboxes/${sandboxId}/processes/${process_id}/attach`);
  attachmentId = await runInDurableObject(objectOf(sandboxId), (_, state) => {
    const tags = state.getTags(state.getWebSockets("host")[0]!);
    return tags.find((tag) => tag.startsWith("at:"))!.slice(3);
  });
});

/** Dials back as the host that signs; with `path` as another than is signed for. */
async function dial(hostId: string, target: string, { path = target, method = "GET", signer = hostId } = {}) {
  const key = await deriveHostKey(env.SIGNING_SECRET, signer);
  const authorization = await signRequest(key, CONTROL_PLANE_AUDIENCE, method, target);
  return upgrade(path, { key: null, headers: { authorization } });
}

/** Whatever was tried: the client still talks to its process. */
async function expectUntouched(): Promise<void> {
  const before = client.stdout;
  client.send(CHANNEL.stdin, "still here");
  await expect.poll(() => client.stdout).toBe(`${before}still here`);
}

describe("a host that dials back", () => {
  it("is let in once", async () => {
    const again = await dial(HOST_ID, attachmentPath(HOST_ID, sandboxId, attachmentId));
    expect(await problemOf(again)).toMatchObject({ status: 409, code: "conflict" });
    await expectUntouched();
  });

  it("is let in for what it was asked for only", async () => {
    for (const unknown of ["a".repeat(22), "x", "..%2f", attachmentId.toUpperCase()]) {
      const response = await dial(HOST_ID, attachmentPath(HOST_ID, sandboxId, unknown));
      expect(await problemOf(response), unknown).toMatchObject({ status: 404, code: "not_found" });
    }
    for (const elsewhere of [newId("sandbox"), "sb-x"]) {
      const response = await dial(HOST_ID, attachmentPath(HOST_ID, elsewhere, attachmentId));
      expect(await problemOf(response), elsewhere).toMatchObject({ status: 404 });
    }
    client.socket.close(1000);
    await expect
      .poll(async () => (await problemOf(await dial(HOST_ID, attachmentPath(HOST_ID, sandboxId, attachmentId)))).status)
      .toBe(404);
  });

  it("must be the host that runs the sandbox", async () => {
    const response = await dial(OTHER_HOST_ID, attachmentPath(OTHER_HOST_ID, sandboxId, attachmentId));
    expect(await problemOf(response)).toMatchObject({ status: 404, code: "not_found" });
    await expectUntouched();
  });

  it("must have signed for this path, with its own key", async () => {
    const target = attachmentPath(HOST_ID, sandboxId, attachmentId);
    const attempts = [
      dial(HOST_ID, target, { signer: OTHER_HOST_ID }),
      dial(HOST_ID, attachmentPath(HOST_ID, sandboxId, "b".repeat(22)), { path: target }),
      dial(HOST_ID, target, { path: `${target}?x=1` }),
      dial(HOST_ID, target, { method: "POST" }),
      upgrade(target, { key: null }),
      upgrade(target),
    ];
    for (const attempt of attempts) {
      expect(await problemOf(await attempt)).toMatchObject({ status: 401, code: "unauthenticated" });
    }
    await expectUntouched();
  });
});
