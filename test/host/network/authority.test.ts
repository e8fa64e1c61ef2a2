import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { connect, createServer } from "node:tls";
import { describe, expect, it } from "vitest";
import { Authority, KeptAuthoritySchema } from "../../../src/host/network/authority.ts";

/** What a client says that trusts the certificate and nothing else. */
async function visit(authority: Authority, ca: string, servername: string): Promise<string> {
  const server = createServer({ SNICallback: (name, done) => done(null, authority.contextOf(name)) }, (socket) =>
    socket.end("hello"),
  );
  await once(server.listen(0, "127.0.0.1"), "listening");
  const socket = connect({ host: "127.0.0.1", port: (server.address() as AddressInfo).port, servername, ca });
  try {
    const [bytes] = await once(socket, "data");
    return String(bytes);
  } catch (error) {
    return (error as Error).message;
  } finally {
    socket.destroy();
    server.close();
  }
}

describe("the authority of a sandbox", () => {
  const domains = ["api.test", `${"long.".repeat(40)}test`];

  it("vouches for its domains, and for no other", async () => {
    const authority = Authority.create("sb-one", domains);
    for (const domain of domains) expect(await visit(authority, authority.certificate, domain)).toBe("hello");
    for (const other of ["api.testing", "other.test", "test"])
      expect(await visit(authority, authority.certificate, other)).toBe("permitted subtree violation");
    const stranger = Authority.create("sb-one", domains);
    expect(await visit(authority, stranger.certificate, "api.test")).not.toBe("hello");
  });

  it("is the same after a restart of the daemon", async () => {
    const authority = Authority.create("sb-one", domains);
    const again = Authority.from(KeptAuthoritySchema.parse(JSON.parse(JSON.stringify(authority))));
    expect(again.certificate).toBe(authority.certificate);
    expect(await visit(again, authority.certificate, "api.test")).toBe("hello");
  });

  it("is one of its own for each sandbox, and no longer good than the longest of them lives", () => {
    const now = Date.now();
    const [one, two] = ["sb-one", "sb-two"].map((id) => new X509Certificate(Authority.create(id, domains).certificate));
    expect(one!.subject).toBe("CN=Sandbar egress of sb-one");
    expect(one!.publicKey.equals(two!.publicKey)).toBe(false);
    expect(one!.ca).toBe(true);
    expect(Date.parse(one!.validFrom)).toBeLessThan(now);
    expect(Date.parse(one!.validTo) - now).toBeLessThan(26 * 3_600_000);
  });
});
