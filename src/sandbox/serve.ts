import { isLive } from "../contract/sandbox.ts";
import type { SandboxCall } from "./call.ts";
import { endedError } from "./lifecycle.ts";
import type { Parts } from "./parts.ts";
import { forwardToPort } from "./tunnel.ts";

/** Answers what RPC does not carry: requests to ports, and sockets. */
export function serve(parts: Parts, call: SandboxCall, request: Request): Promise<Response> | Response {
  const { operations, attachments, execs, host, tokens } = parts;
  switch (call.kind) {
    case "port":
      return forwardToPort({ operations, tokens, host }, call, request);
    case "attach":
      return operations.run(call, () => attachments.attach(call));
    case "exec":
      return operations.run(call, async () => {
        const record = operations.record();
        if (!isLive(record.state)) throw endedError(record);
        return execs.open(call.acks);
      });
    case "attachment":
      return attachments.dialBack(call.hostId, call.attachmentId);
  }
}
