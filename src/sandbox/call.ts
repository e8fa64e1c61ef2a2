import { ApiError, type ErrorCode } from "../contract/errors.ts";
import { OWN_PREFIX } from "../contract/forwarding.ts";

/**
 * What the Worker asks of a sandbox's object by `fetch`, where RPC does not reach: a request to a port, and sockets. It
 * stands in one header, which the Worker sets on every request after it has taken away all that begin as it does.
 */
export type SandboxCall =
  | PortCall
  /** A client's socket to a process. */
  | ({ kind: "attach"; environment: string } & AttachRequest)
  /** A client's socket whose first message says what to run. */
  | { kind: "exec"; environment: string; acks: boolean }
  /** A host dials back for an attachment. The Worker has checked that it is this host. */
  | { kind: "attachment"; hostId: string; attachmentId: string };

/**
 * A request to a port. Of one with a body the head comes first and alone (`bodyFollows`). The answer is the app's own, one that stands in its place, or says
 * where the Worker is to send the request: see `onward.ts`.
 */
export interface PortCall {
  kind: "port";
  port: number;
  /** The address that it comes from, where that is known. */
  client?: string | undefined;
  bodyFollows?: boolean;
  /** It was sent to the host already, in vain: why. */
  failure?: ErrorCode;
  /** It is to pass through the object, whatever other way there is. */
  isThrough?: boolean;
}

/** Where in the output of which process a client's socket begins. */
export interface AttachRequest {
  processId: string;
  stdoutOffset: number;
  stderrOffset: number;
  acks: boolean;
}

const CALL_HEADER = `${OWN_PREFIX}call`;

/** The headers with the call in them, and nothing of the client's that could pass for one of ours. */
export function withCall(headers: Headers, call: SandboxCall): Headers {
  const own = withoutCall(headers);
  own.set(CALL_HEADER, JSON.stringify(call));
  return own;
}

/** The headers without any of ours. */
export function withoutCall(headers: Headers): Headers {
  return new Headers([...headers].filter(([name]) => !name.startsWith(OWN_PREFIX)));
}

export function callOf(request: Request): SandboxCall {
  const header = request.headers.get(CALL_HEADER);
  if (header === null) throw new ApiError("internal", { detail: "The request says nothing of what it is for." });
  return JSON.parse(header) as SandboxCall;
}
