import { createServer } from "node:http";
import { json } from "node:stream/consumers";
import { HostReportSchema } from "../../src/contract/host-report.ts";
import { CONTROL_PLANE_AUDIENCE, deriveHostKey, verifyRequest } from "../../src/contract/host-token.ts";

export const SECRET = "a-signing-secret-of-tests-0123456789";

/** The control plane's end of reports, as far as keys go. */
export class KeyGiver {
  wanted = 1;
  oldest = 1;
  /** Answers that are lost on their way. */
  lost = 0;
  /** The versions that reports were signed with; 0 for what was refused. */
  readonly seen: number[] = [];
  readonly server = createServer(async (request, response) => {
    const { info } = HostReportSchema.parse(await json(request));
    const key = async (version: number) =>
      version < this.oldest || version > this.wanted ? undefined : deriveHostKey(SECRET, info.host_id, version);
    const { authorization } = request.headers;
    const signed = { authorization, method: "POST", target: `/v1/hosts/${info.host_id}/report` };
    const version = await verifyRequest(key, CONTROL_PLANE_AUDIENCE, signed).catch(() => 0);
    this.seen.push(version);
    if (version === 0) return response.writeHead(401).end();
    if (this.lost-- > 0) return request.socket.destroy();
    const next = version < this.wanted && { version: this.wanted, key: await key(this.wanted) };
    return response.end(JSON.stringify({ reap: [], ...(next && { key: next }) }));
  });
}
