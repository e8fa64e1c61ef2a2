import { hostIdOf } from "../backends/backend.ts";
import { CLOSE, START, type AttachSpec } from "../contract/attach.ts";
import { ApiError, hasCode } from "../contract/errors.ts";
import { ID_PREFIX, newId } from "../contract/ids.ts";
import type { AttachRequest } from "./call.ts";
import type { HostLink } from "./host-link.ts";
import type { Lifecycle } from "./lifecycle.ts";
import { hasEnded } from "./process-record.ts";
import type { Processes } from "./processes.ts";
import { close, sendTo, type Sockets } from "./sockets.ts";

/** 22 characters of `[a-z0-9]`: it names one attachment, once. */
export const newAttachmentId = (): string => newId("process").slice(ID_PREFIX.process.length + 1);

/** Connects clients' sockets to processes: the host is asked, and dials back with a socket of its own. */
export class Attachments {
  readonly #sockets: Sockets;
  readonly #processes: Processes;
  readonly #lifecycle: Lifecycle;
  readonly #host: HostLink;
  /** Those that the host is being asked for. */
  readonly #awaited = new Set<string>();

  constructor(sockets: Sockets, processes: Processes, lifecycle: Lifecycle, host: HostLink) {
    this.#sockets = sockets;
    this.#processes = processes;
    this.#lifecycle = lifecycle;
    this.#host = host;
  }

  /** A client attaches: the answer is its socket, once the host's stands. */
  async attach(request: AttachRequest): Promise<Response> {
    const attachmentId = newAttachmentId();
    await this.connect(attachmentId, request);
    const { processId } = request;
    const webSocket = this.#sockets.accept(attachmentId, { role: "client", phase: "attached", processId });
    this.start(attachmentId);
    return new Response(null, { status: 101, webSocket });
  }

  /** Has the host dial back. Its socket sends nothing before `start`. */
  async connect(attachmentId: string, { processId, stdoutOffset, stderrOffset, acks }: AttachRequest): Promise<void> {
    const backend = await this.#host.running();
    await this.#processes.find(processId);
    const spec: AttachSpec = {
      attachment_id: attachmentId,
      stdout_offset: stdoutOffset,
      stderr_offset: stderrOffset,
      acks,
    };
    this.#awaited.add(attachmentId);
    try {
      await backend.attach(processId, spec);
      if (!this.#sockets.find(attachmentId, "host")) throw new ApiError("backend_unavailable", { detail: NOT_BACK });
    } catch (error) {
      close(this.#sockets.find(attachmentId, "host"), CLOSE.done, "not wanted any more");
      throw await this.#explained(processId, error);
    } finally {
      this.#awaited.delete(attachmentId);
    }
  }

  /** The client listens. */
  start(attachmentId: string): void {
    sendTo(this.#sockets.find(attachmentId, "host"), START);
  }

  /** A host dials back. It is let in once, for what it was asked for, by the sandbox that it runs. */
  dialBack(hostId: string, attachmentId: string): Response {
    const isOwn = hostIdOf(this.#lifecycle.record?.placement) === hostId;
    const isWanted = this.#awaited.has(attachmentId) || this.#sockets.find(attachmentId, "client") !== undefined;
    if (!isOwn || !isWanted) throw new ApiError("not_found", { detail: "Nobody waits for this attachment." });
    if (this.#sockets.find(attachmentId, "host")) {
      throw new ApiError("conflict", { detail: "The attachment has its host already." });
    }
    const webSocket = this.#sockets.accept(attachmentId, { role: "host" });
    return new Response(null, { status: 101, webSocket });
  }

  /** A socket to the client of an attachment, for a process beside this object. */
  socketInside(attachmentId: string): WebSocket {
    return this.#sockets.accept(attachmentId, { role: "host" });
  }

  /** A host that does not have the process any more has lost it. */
  async #explained(processId: string, error: unknown): Promise<unknown> {
    if (!hasCode(error, "process_not_found")) return error;
    const isLost = hasEnded(await this.#processes.get(processId));
    return isLost ? new ApiError("process_ended", { detail: "The host has lost the process." }) : error;
  }
}

const NOT_BACK = "The sandbox's host did not open its socket.";
