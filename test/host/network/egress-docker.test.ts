import { execSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { newId } from "../../../src/contract/ids.ts";
import { IMAGE, noEngine, removeImages } from "../docker-host.ts";
import { text } from "../signed-host.ts";
import { WarmHost } from "../warm-host.ts";
import { egressSuite } from "./egress-suite.ts";
import { noLab } from "./lab.ts";

const network = { headers: [{ domain: "allowed.test", header: "authorization", value: "Bearer x" }] };

/** Says what answers in the place of a domain that nobody finds, to whoever trusts it. */
const ASK = `
import socket, ssl
server = ssl.create_default_context().wrap_socket(socket.create_connection(("198.51.100.2", 443), 5), server_hostname="allowed.test")
server.sendall(b"GET / HTTP/1.1\\r\\nHost: allowed.test\\r\\n\\r\\n")
print(server.recv(99).split(b"\\r\\n")[0].decode())
`;

describe.skipIf((noLab ?? noEngine) !== undefined)("headers added to requests, docker", { timeout: 60_000 }, () => {
  egressSuite("docker", IMAGE, "/");

  it("come also from what was started ahead of its sandbox", async () => {
    const host = await WarmHost.start();
    try {
      const warm = await host.ready();
      const script = `python3 -c "$ASK" >/tmp/main 2>&1; exec sleep 600`;
      const { box, json } = await host.create({ warm, network, entrypoint: ["sh", "-c", script], env: { ASK } });
      expect([json["kind"], await host.isIn(box, warm)]).toEqual(["launched", true]);
      const said = async (command: string[]) => text((await host.signed.exec(box, command)).output!.stdout).trim();
      expect(await said(["python3", "-c", ASK])).toMatch(/^HTTP\/1.1 50[24] /);
      await expect.poll(() => said(["cat", "/tmp/main"]), { timeout: 15_000 }).toMatch(/^HTTP\/1.1 50[24] /);
    } finally {
      expect(await host.close()).toEqual([]);
    }
  });

  it("keep a sandbox from starting whose image does not take the certificate", async () => {
    const name = `sandbar-egress-${newId("sandbox")}`;
    const dir = mkdtempSync("/tmp/sandbar-egress-");
    execSync(`mkdir etc && touch etc/ssl && tar c etc | docker import - ${name}`, { cwd: dir, stdio: "pipe" });
    const host = await WarmHost.start();
    try {
      const { json } = await host.create({ image: name, network });
      expect(json).toEqual({
        kind: "failed",
        error: "The certificate that `egress_headers` need could not be installed in the image.",
      });
    } finally {
      expect(await host.close()).toEqual([]);
      removeImages(name);
      rmSync(dir, { recursive: true, force: true });
    }
  });
});
