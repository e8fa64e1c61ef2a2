import { exports, WorkerEntrypoint } from "cloudflare:workers";
import { attachmentPath, type AttachSpec } from "../../src/contract/attach.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, signRequest } from "../../src/contract/host-token.ts";
import type { Env } from "../../src/api/env.ts";
import { hostIdOf } from "../../src/backends/backend.ts";
import type { OpenBackend } from "../../src/backends/index.ts";
import worker, { Sandbox as RealSandbox } from "../../src/index.ts";
import { pushImage } from "../fake/fake-push.ts";
import { serveAttachment } from "../fake/fake-attachment.ts";
import { FakeHost } from "../fake/fake-host.ts";

/** The host that every sandbox of this worker runs on. */
export const fakeHost = new FakeHost();
fakeHost.push = (target, layers) =>
  pushImage((path, init) => exports.default.fetch(new Request(`http://api.test${path}`, init)), target, layers);

/** The real object on the fake backend. */
export class Sandbox extends RealSandbox {
  protected override backends(): OpenBackend {
    return (sandboxId, _, placement) =>
      fakeHost.open(sandboxId, (_sandboxId, process, spec) =>
        exports.HostSide.dialBack(hostIdOf(placement)!, sandboxId, process.spec.process_id, spec),
      );
  }
}

/** The host's end of the sockets. It is no part of any object, so that objects may sleep and be evicted meanwhile. */
export class HostSide extends WorkerEntrypoint<Env> {
  async dialBack(hostId: string, sandboxId: string, processId: string, spec: AttachSpec): Promise<void> {
    const target = attachmentPath(hostId, sandboxId, spec.attachment_id);
    const key = await deriveHostKey(this.env.SIGNING_SECRET, hostId);
    const authorization = await signRequest(key, CONTROL_PLANE_AUDIENCE, "GET", target);
    const headers = { authorization, upgrade: "websocket" };
    const { webSocket, status } = await exports.default.fetch(new Request(`http://api.test${target}`, { headers }));
    if (!webSocket) throw new Error(`The dial back was answered with ${status}.`);
    const process = fakeHost.containers.get(sandboxId)!.processes.get(processId)!;
    const count = (by: number) => fakeHost.attached.set(sandboxId, (fakeHost.attached.get(sandboxId) ?? 0) + by);
    count(1);
    this.ctx.waitUntil(serveAttachment(fakeHost, process, webSocket, spec).finally(() => count(-1)));
  }
}

export { Placement, Registry, Volume } from "../../src/index.ts";
export default worker;
