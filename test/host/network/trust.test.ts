import { mkdtempSync, rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { newId } from "../../../src/contract/ids.ts";
import { openEmbeddedRuntime } from "../../../src/host/embedded/runtime.ts";
import { Authority } from "../../../src/host/network/authority.ts";
import { installTrust, withTrust } from "../../../src/host/network/trust.ts";
import { StartFailure, type Container, type Runtime } from "../../../src/host/runtime.ts";
import { DockerHost, exec, makeEmptyImage, makeImage, noEngine, removeImages, sh, spec } from "../docker-host.ts";

const newCertificate = () => Authority.create("sb-one", ["api.test"]).certificate;
const headers = [{ domain: "api.test", header: "x", value: "v" }];
/** The certificates of the bundle that its programs trust, and what they are told to trust. */
const LOOK = `
cat "$SSL_CERT_FILE"; echo "%%"
cat "$NODE_EXTRA_CA_CERTS"; echo "%%"
for f in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt; do [ ! -e $f ] || grep -c BEGIN $f; done; echo "%%"
echo "$CURL_CA_BUNDLE $PIP_CERT"`;

async function look(container: Container) {
  const { stdout } = await sh(container, LOOK);
  const [bundle, own, counts, variables] = stdout.split("%%\n");
  return { bundle: bundle!, own, counts: counts!.trim().split("\n").map(Number), variables: variables!.trim() };
}
const countOf = (text: string, part: string) => text.split(part).length - 1;

function suite(open: () => { runtime: Runtime; image: string }) {
  it("is trusted beside all that was, in the place of an earlier one", async () => {
    const { runtime, image } = open();
    const container = await runtime.start(
      withTrust(spec({ image, network: { headers }, env: { PIP_CERT: "/own" } })),
      [],
    );
    const [earlier, certificate] = [newCertificate(), newCertificate()];
    try {
      const before = await sh(container, "cat /etc/ssl/certs/ca-certificates.crt");
      await installTrust(container, earlier);
      const first = await look(container);
      await installTrust(container, certificate);
      const second = await look(container);
      expect(first.bundle).toContain(earlier);
      expect(second.bundle).toBe(first.bundle.replace(earlier, certificate));
      expect(countOf(second.bundle, "BEGIN CERTIFICATE")).toBe(countOf(before.stdout, "BEGIN CERTIFICATE") + 1);
      expect(second.own).toBe(certificate);
      expect(new Set(second.counts)).toEqual(new Set([countOf(second.bundle, "BEGIN CERTIFICATE")]));
      expect(second.variables).toBe("/etc/sandbar-egress/bundle.pem /own");
    } finally {
      await container.stop();
    }
  });
}

describe("variables of trust", () => {
  it("are for sandboxes with added headers only", () => {
    const plain = spec();
    expect(withTrust(plain)).toBe(plain);
    expect(withTrust({ ...plain, network: { headers: [] } }).env).toEqual({});
    expect(withTrust({ ...plain, network: { headers } }).env).toMatchObject({
      NODE_EXTRA_CA_CERTS: "/etc/sandbar-egress/ca.pem",
      SSL_CERT_FILE: "/etc/sandbar-egress/bundle.pem",
    });
  });
});

describe.skipIf(noEngine !== undefined)("a sandbox's certificate on docker", { timeout: 60_000 }, () => {
  let host: DockerHost;
  const images: string[] = [];
  beforeAll(async () => {
    host = await DockerHost.open();
  });
  afterAll(async () => {
    await host.close();
    removeImages(...images);
  });
  const make = (...changes: string[]) => {
    const name = `sandbar-trust-${newId("sandbox")}`;
    images.push(name);
    return makeImage(name, ...changes);
  };

  suite(() => ({ runtime: host.runtime, image: spec().image }));

  it("is installed also where the image's user is not root", async () => {
    const container = await host.start(withTrust(spec({ image: make("USER 1000"), network: { headers } })));
    const certificate = newCertificate();
    await installTrust(container, certificate);
    expect((await sh(container, "id -u; cat $SSL_CERT_FILE")).stdout).toMatch(/^1000\n/);
    expect((await look(container)).bundle).toContain(certificate);
  });

  it("is installed with this machine's roots where the image has none, and no link of it leads astray", async () => {
    const container = await host.start(withTrust(spec({ network: { headers } })));
    await sh(
      container,
      "rm -rf /etc/ssl /usr/local/share/ca-certificates; mkdir -p /etc/ssl/certs /victim; echo kept >/victim/file;" +
        "ln -s /nowhere /etc/ssl/certs/ca-certificates.crt; ln -s /victim /etc/sandbar-egress",
    );
    const certificate = newCertificate();
    await installTrust(container, certificate);
    const { bundle, counts } = await look(container);
    expect(bundle).toContain(certificate);
    expect(counts[0]).toBeGreaterThan(50);
    const { stdout } = await sh(
      container,
      "ls /victim; cat /usr/local/share/ca-certificates/sandbar-egress.crt; ls /nowhere",
    );
    expect(stdout).toBe(`file\n${certificate}`);
  });

  it("is installed in an image without a single file, and in a snapshot of such a sandbox in the place of the old", async () => {
    const empty = makeEmptyImage(`sandbar-trust-${newId("sandbox")}`);
    images.push(empty);
    const container = await host.start(withTrust(spec({ image: empty, network: { headers } })));
    const [old, certificate] = [newCertificate(), newCertificate()];
    await installTrust(container, old);
    const snapshot = newId("image");
    await container.snapshot(snapshot);
    const again = await host.start(withTrust(spec({ image: snapshot, network: { headers } })));
    await installTrust(again, certificate);
    const busybox = ["/.sandbar/busybox", "cat", "/etc/sandbar-egress/bundle.pem"];

    const { stdout } = await exec(again, busybox);
    expect([stdout.includes(certificate), stdout.includes(old)]).toEqual([true, false]);
    await again.stop();
    await host.runtime.removeImage(snapshot);
  });

  it("keeps a sandbox from starting where it cannot be installed", async () => {
    const container = await host.start(withTrust(spec({ network: { headers } })));
    await sh(container, "rm -rf /etc/ssl; touch /etc/ssl");
    await expect(installTrust(container, newCertificate())).rejects.toThrow(StartFailure);
  });
});

describe("a sandbox's certificate without an engine", { timeout: 60_000 }, () => {
  let runtime: Runtime;
  const dataDir = mkdtempSync("/tmp/sb-trust-");
  beforeAll(async () => {
    runtime = await openEmbeddedRuntime({ dataDir });
  });
  afterAll(() => rmSync(dataDir, { recursive: true, force: true }));

  suite(() => ({ runtime, image: runtime.defaultImage }));
});
