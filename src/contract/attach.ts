import { z } from "zod";
import { wholeNumber } from "./fields.ts";

/**
 * What is spoken on the socket of a process: Kubernetes' remotecommand framing, version 5. The first byte of a binary
 * message is the channel, the rest its payload.
 *
 * | channel | to the process | to the client |
 * | ------- | -------------- | ------------- |
 * | 0       | stdin          |               |
 * | 1, 2    |                | stdout, stderr |
 * | 3       |                | {@link AttachStatus}, once, before the socket closes |
 * | 4       | terminal size: `{"Height": rows, "Width": cols}` |  |
 * | 5       | {@link AckSchema}: how much of each output has been taken | `{"stdin": bytes}`: how much the process was given |
 * | 255     | closes the channel in its payload; 0 ends stdin |  |
 *
 * Channel 5 is ours, for sockets opened with `acks=true`: at most {@link ACK_WINDOW_BYTES} are on their way unacknowledged,
 * so a slow client costs no memory anywhere. The platform does not tell how much a client has taken, so a socket without
 * acks on which {@link SILENT_LIMIT_BYTES} were sent with no message from the client between is closed
 * ({@link CLOSE.unacknowledged}); the client comes back at its offset.
 */
export const ATTACH_PROTOCOL = "v5.channel.k8s.io";
/** `base64url.bearer.authorization.k8s.io.<base64url(key)>`: the API key, for browsers, which set no headers. */
export const BEARER_PROTOCOL_PREFIX = "base64url.bearer.authorization.k8s.io.";

export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, status: 3, resize: 4, ack: 5, close: 255 } as const;

export const ACK_WINDOW_BYTES = 4 * 1024 * 1024;
export const SILENT_LIMIT_BYTES = 32 * 1024 * 1024;
/** How much input may wait for a process that does not read it. */
export const STDIN_BACKLOG_BYTES = 16 * 1024 * 1024;

/** Close codes. All but `done` leave the process as it is: attach again at the offsets that arrived. */
export const CLOSE = {
  /** The status has been told. */
  done: 1000,
  /** The first message of an exec is no request that can be run; the status says why. */
  refused: 4400,
  /** The host, or the way to it, has gone. */
  hostAway: 1012,
  /** The output at the offset is no longer kept: the client was too slow. */
  outputExpired: 4410,
  /** More input than {@link STDIN_BACKLOG_BYTES} waits for the process, or than 1 MiB for one that has not started yet. */
  stdinBacklog: 4413,
  unacknowledged: 4429,
} as const;

export const OffsetSchema = wholeNumber(0);

/** Of a client: the offsets up to which it has taken each output. */
export const AckSchema = z.strictObject({ stdout: z.int().min(0).optional(), stderr: z.int().min(0).optional() });

/** Kubernetes names its terminal sizes so. */
export const ResizeMessageSchema = z.object({ Width: z.int().min(1).max(4096), Height: z.int().min(1).max(4096) });

/** What the host is asked to attach. It answers once its own socket to the object stands. */
export const AttachSpecSchema = z.strictObject({
  attachment_id: z.string().regex(/^[a-z0-9]{22}$/),
  stdout_offset: z.int().min(0),
  stderr_offset: z.int().min(0),
  acks: z.boolean(),
});
export type AttachSpec = z.infer<typeof AttachSpecSchema>;

/**
 * Where the host dials back. On that socket binary messages pass to and from the client as they are. Text messages are
 * between the object and the host: {@link START} from the object once the client listens, and a {@link HostClose} from the
 * host when the client's socket is to close.
 */
export const attachmentPath = (hostId: string, sandboxId: string, attachmentId: string): string =>
  `/v1/hosts/${hostId}/attachments/${sandboxId}/${attachmentId}`;

export const START = "start";

export const HostCloseSchema = z.object({ close: z.object({ code: z.int(), reason: z.string() }) });
export type HostClose = z.infer<typeof HostCloseSchema>;

/** How a process ended, as Kubernetes' clients read it, with our own words beside it. */
export interface AttachStatus {
  metadata: Record<string, never>;
  status: "Success" | "Failure";
  message?: string;
  reason?: string;
  details?: { causes: { reason: string; message: string }[] };
  /** Absent where the process could not be started. */
  process?: {
    returncode: number;
    timed_out: boolean;
    signal?: string | undefined;
    finish_reason: string;
    stdout_bytes: number;
    stderr_bytes: number;
  };
  /** A problem document, where the process could not be started. */
  problem?: object;
}

/** The status of a process that has ended. */
export function statusOfEnd(process: NonNullable<AttachStatus["process"]>): AttachStatus {
  const { returncode } = process;
  if (returncode === 0) return { metadata: {}, status: "Success", process };
  return {
    metadata: {},
    status: "Failure",
    reason: "NonZeroExitCode",
    message: `command terminated with exit code ${returncode}`,
    details: { causes: [{ reason: "ExitCode", message: String(returncode) }] },
    process,
  };
}

/** A message for the client: one channel byte, then the payload. */
export function channelMessage(channel: number, payload: Uint8Array | string): Uint8Array {
  const bytes = typeof payload === "string" ? new TextEncoder().encode(payload) : payload;
  const message = new Uint8Array(1 + bytes.length);
  message[0] = channel;
  message.set(bytes, 1);
  return message;
}
