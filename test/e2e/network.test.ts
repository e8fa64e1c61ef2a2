import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Lab, noLab } from "../host/network/lab.ts";
import { Instance } from "./instance.ts";
import { killHost, killWorker } from "./leftovers.ts";
import { HOST_RUNTIMES } from "./runtimes.ts";
import { TUNNEL_APP } from "./tunnel-app.ts";
import { askTunnel, tunnelHost } from "./tunnel-calls.ts";

/** What comes of a request from inside, in python's standard library: the status, or how it failed; then the body. */
const ASK = `
import socket, sys
host, port, name, path = sys.argv[1:5]
try:
    s = socket.create_connection((host, int(port)), 5)
    s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    answer = b""
    while (data := s.recv(65536)): answer += data
    print(answer.split(b" ")[1].decode() if answer else "closed")
except socket.gaierror: print("no such name")
except OSError as error: print(type(error).__name__)
`;

/** Says it is connected, then how long it took until the connection was cut. */
const HOLD = `
import socket, sys
s = socket.create_connection((sys.argv[1], 9999), 5)
s.recv(100)
print("connected", flush=True)
try:
    while True:
        s.sendall(b"x")
        if not s.recv(1): break
except OSError: pass
print("cut", flush=True)
`;

describe.skipIf(noLab !== undefined).each(HOST_RUNTIMES)(
  "the network on the %s runtime",
  { timeout: 120_000 },
  (runtime) => {
    const folder = mkdtempSync(join(tmpdir(), "sandbar-network-"));
    const before = { ...process.env };
    let lab: Lab;
    let instance: Instance;
    beforeAll(async () => {
      lab = await Lab.start();
      writeFileSync(join(folder, "ca.pem"), lab.ca);
      Object.assign(process.env, { SANDBAR_DNS: lab.plan.resolver, NODE_EXTRA_CA_CERTS: join(folder, "ca.pem") });
      instance = await Instance.start(runtime);
    }, 240_000);
    afterAll(async () => {
      process.env = before;
      await instance?.remove();
      await lab?.close();
      rmSync(folder, { recursive: true });
    });

    const create = async (more: object) => {
      const id = await instance.create({ timeout: 600, ...more });
      expect(await instance.until(id, ["ready", "finished", "terminated"], 60_000)).toMatchObject({ state: "ready" });
      return id;
    };
    const ask = async (id: string, host: string, name = host, path = "/") =>
      (await instance.exec(id, ["python3", "-c", ASK, host, "80", name, path])).stdout.trim();
    const patch = (id: string, body: object) => instance.call("PATCH", `/sandboxes/${id}`, body);
    const end = (id: string) => instance.call("DELETE", `/sandboxes/${id}`);

    it("is open, limited to domains, cut off and open again, while the sandbox runs", async () => {
      const id = await create({});
      // Whom docker's own resolver asks is the machine's business.
      if (runtime === "embedded") expect(await ask(id, "allowed.test")).toBe("200");
      expect(await ask(id, lab.plan.other)).toBe("200");
      expect(await patch(id, { outbound_domain_allowlist: ["*.allowed.test"] })).toMatchObject({
        outbound_domain_allowlist: ["*.allowed.test"],
      });
      expect(await ask(id, "allowed.test")).toBe("200");
      expect(await ask(id, "sub.allowed.test")).toBe("200");
      expect(await ask(id, "other.test")).toBe("no such name");
      // By an address that it was never given, with a name that is allowed: the name counts, not the address.
      await lab.forget();
      expect(await ask(id, lab.plan.attacker, "allowed.test")).toBe("200");
      expect((await lab.hits()).map(({ address }) => address)).not.toContain(lab.plan.attacker);
      expect(await ask(id, lab.plan.other, "other.test")).not.toBe("200");
      await patch(id, { block_network: true });
      expect(await ask(id, lab.plan.allowed, "allowed.test")).not.toBe("200");
      await patch(id, { block_network: false });
      expect(await ask(id, lab.plan.other)).toBe("200");
      await end(id);
    });

    it("cuts what a new list forbids, and lets addresses of a list through", async () => {
      const id = await create({ outbound_cidr_allowlist: [`${lab.plan.allowed}/32`, "2001:db8::/32"] });
      expect(await ask(id, lab.plan.allowed)).toBe("200");
      expect(await ask(id, lab.plan.other)).not.toBe("200");
      const { process_id } = await instance.call<{ process_id: string }>("POST", `/sandboxes/${id}/exec`, {
        command: ["python3", "-c", HOLD, lab.plan.allowed],
      });
      const said = async () => (await instance.fetch(`/sandboxes/${id}/processes/${process_id}/stdout`)).text();
      await expect.poll(said, { timeout: 10_000 }).toBe("connected\n");
      await patch(id, { outbound_cidr_allowlist: [`${lab.plan.other}/32`] });
      await expect.poll(said, { timeout: 3_000 }).toBe("connected\ncut\n");
      expect(await ask(id, lab.plan.other)).toBe("200");
      await end(id);
    });

    it("keeps the rules over a crash of the host and the Worker, and refuses lists that make no sense", async () => {
      const id = await create({ outbound_domain_allowlist: ["allowed.test"] });
      killHost(instance);
      killWorker(instance);
      // Nothing of ours is left to say yes, until it is there again.
      await expect.poll(() => ask(id, "allowed.test").catch(String), { timeout: 30_000 }).toBe("200");
      expect(await ask(id, lab.plan.other)).not.toBe("200");
      await end(id);
      const refused = await instance.fetch("/sandboxes", {
        method: "POST",
        body: JSON.stringify({ outbound_cidr_allowlist: ["10.0.0.0"] }),
      });
      expect(await refused.json()).toMatchObject({ status: 400, errors: [{ path: "outbound_cidr_allowlist.0" }] });
    });

    it("adds headers to what leaves, and keeps their values out of the sandbox", async () => {
      const value = "a-key-that-stays-out";
      await instance.call("POST", "/secrets", { name: "upstream", values: { KEY: value } });
      const id = await create({
        outbound_domain_allowlist: ["allowed.test"],
        egress_headers: [{ domain: "allowed.test", header: "Authorization", secret: "upstream", prefix: "Bearer " }],
      });
      const script = `import ssl, urllib.request as r; print(r.urlopen("https://allowed.test/x", timeout=10).read().decode())`;
      const { stdout, stderr } = await instance.exec(id, ["python3", "-c", script], {}, 30);
      // Python without TLS has nothing to ask with.
      if (!stderr.includes("ModuleNotFoundError")) {
        expect(stderr).toBe("");
        expect(JSON.parse(stdout)).toMatchObject({ headers: { authorization: `Bearer ${value}` } });
      }
      const search = `env; cat /proc/*/environ; grep -rs ${value} /etc /root /tmp /run /usr/local || true`;
      expect((await instance.exec(id, ["sh", "-c", search], {}, 30)).stdout).not.toContain(value);
      expect(await (await instance.fetch(`/sandboxes/${id}`)).text()).not.toContain(value);
      await end(id);
    });

    it("lets in whom it should: by address, and by token", async () => {
      const id = await create({
        encrypted_ports: [8080],
        inbound_cidr_allowlist: ["192.0.2.0/24"],
        tunnel_auth: "token",
      });
      const through = (headers = {}) => askTunnel(instance, tunnelHost(instance, id, 8080), { headers });
      await instance.call("POST", `/sandboxes/${id}/exec`, { command: ["python3", "-c", TUNNEL_APP, "8080"] });
      expect(await through()).toMatchObject({ status: 403 });
      await patch(id, { inbound_cidr_allowlist: ["127.0.0.0/8", "::1/128"] });
      expect(await through()).toMatchObject({ status: 401 });
      const body = { port: 8080 };
      const { token } = await instance.call<{ token: string }>("POST", `/sandboxes/${id}/connect-tokens`, body);
      const bearer = { authorization: `Bearer ${token}` };
      await expect.poll(async () => (await through(bearer)).status, { timeout: 15_000 }).toBe(200);
      // Whoever says to come from elsewhere does not.
      const forged = { ...bearer, "cf-connecting-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1" };
      await patch(id, { inbound_cidr_allowlist: ["192.0.2.0/24"] });
      expect(await through(forged)).toMatchObject({ status: 403 });
      await end(id);
    });
  },
);
