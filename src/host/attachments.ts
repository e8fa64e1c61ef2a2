import { WebSocket } from "ws";
import { attachmentPath, type AttachSpec } from "../contract/attach.ts";
import { ApiError } from "../contract/errors.ts";
import { CONTROL_PLANE_AUDIENCE } from "../contract/host-token.ts";
import { Attachment, type SandboxShare } from "../process/attachment.ts";
import { attachmentSocket } from "./attachment-socket.ts";
import type { HostKeys } from "./host-keys.ts";
import type { HostProcess } from "./process.ts";

const DIAL_TIMEOUT_MS = 10_000;
const PING_MS = 30_000;
/** What a client sends in one message. */
const MAX_MESSAGE_BYTES = 33 * 1024 * 1024;

export interface AttachmentsOptions {
  controlPlaneUrl: string | undefined;
  hostId: string;
  keys: HostKeys;
}

/** The sockets that this host has opened to sandboxes' objects, for clients that are attached to processes. */
export class Attachments {
  readonly #options: AttachmentsOptions;
  readonly #sockets = new Set<WebSocket>();
  /** By sandbox: its object holds what all its clients have not taken. */
  readonly #shares = new Map<string, SandboxShare & { users: number }>();

  constructor(options: AttachmentsOptions) {
    this.#options = options;
  }

  /** Dials the object of the sandbox; done when the socket stands. Throws `output_expired`. */
  async open(sandboxId: string, process: HostProcess, spec: AttachSpec): Promise<void> {
    process.logs.stdout.requireKept(spec.stdout_offset);
    process.logs.stderr.requireKept(spec.stderr_offset);
    const socket = await this.#dial(attachmentPath(this.#options.hostId, sandboxId, spec.attachment_id));
    this.#sockets.add(socket);
    const share = this.#shareOf(sandboxId);
    const stopPinging = keepAlive(socket);
    socket.once("close", () => {
      stopPinging();
      this.#sockets.delete(socket);
      if (--share.users === 0 && share.waitingInput === 0) this.#shares.delete(sandboxId);
    });
    new Attachment(attachmentSocket(socket), process, spec, share).listen();
  }

  /** Cuts all of them: clients come back at their offsets. */
  close(): void {
    for (const socket of this.#sockets) socket.terminate();
  }

  #shareOf(sandboxId: string): SandboxShare & { users: number } {
    const share = this.#shares.get(sandboxId) ?? { unacknowledged: 0, waitingInput: 0, users: 0 };
    share.users++;
    this.#shares.set(sandboxId, share);
    return share;
  }

  async #dial(path: string): Promise<WebSocket> {
    const { controlPlaneUrl, keys } = this.#options;
    if (controlPlaneUrl === undefined) {
      throw new ApiError("unsupported_by_backend", { detail: "This host works for no control plane." });
    }
    const url = new URL(`${controlPlaneUrl.replace(/\/+$/, "")}${path}`);
    const authorization = await keys.sign(CONTROL_PLANE_AUDIENCE, "GET", url.pathname);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url, {
      headers: { authorization },
      handshakeTimeout: DIAL_TIMEOUT_MS,
      maxPayload: MAX_MESSAGE_BYTES,
      perMessageDeflate: false,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("open", () => resolve());
      socket.once("error", (cause) => {
        reject(
          new ApiError("backend_unavailable", {
            detail: "The sandbox's host cannot open a socket to the control plane.",
            retryAfter: 1,
            cause,
          }),
        );
      });
    });
    // From here on every error is followed by a close, which is what counts.
    socket.on("error", () => {});
    return socket;
  }
}

/** Ends a connection on which nobody answers any more. The platform answers for the object, which sleeps on. */
function keepAlive(socket: WebSocket): () => void {
  let isAnswered = true;
  socket.on("pong", () => (isAnswered = true));
  const timer = setInterval(() => {
    if (!isAnswered) return socket.terminate();
    isAnswered = false;
    socket.ping();
  }, PING_MS);
  return () => clearInterval(timer);
}
