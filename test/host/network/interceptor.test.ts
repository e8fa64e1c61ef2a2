import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { createServer, type AddressInfo, type Server } from "node:net";
import * as tls from "node:tls";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Authority } from "../../../src/host/network/authority.ts";
import { Forbidden } from "../../../src/host/network/forbidden.ts";
import { HeaderInterceptor } from "../../../src/host/network/interceptor.ts";
import { Names } from "../../../src/host/network/names.ts";
import { sniff } from "../../../src/host/network/sniff.ts";
import { until } from "../signed-host.ts";
import { Lab, noLab } from "./lab.ts";

/** Of Node 24.5; its types are older. */
const { setDefaultCACertificates } = tls as unknown as { setDefaultCACertificates(roots: string[]): void };
const VALUE = "s3cr3t-value-that-nobody-sees";
const DOMAINS = [
  "allowed.test",
  "other.test",
  "sub.allowed.test",
  "evil.test",
  "inside.test",
  "absent.test",
  "strange.test",
];

describe.skipIf(noLab !== undefined)("what adds headers to a sandbox's requests", { timeout: 20_000 }, () => {
  let lab: Lab;
  let interceptor: HeaderInterceptor;
  let server: Server;
  const roots = tls.getCACertificates("default");
  const authority = Authority.create("sb-one", DOMAINS);

  beforeAll(async () => {
    lab = await Lab.start();
    setDefaultCACertificates([...roots, lab.ca]);
    for (const name of ["inside.test", "strange.test"]) {
      const address = name === "inside.test" ? lab.plan.host : lab.plan.allowed;
      await lab.name(name, [address]);
    }
    const headers = [
      ...DOMAINS.map((domain) => ({ domain, header: "authorization", value: `Bearer ${VALUE}` })),
      { domain: "allowed.test", header: "x-api-key", value: `key ${VALUE}` },
    ];
    const names = new Names([`${lab.plan.resolver}:53`]);
    interceptor = new HeaderInterceptor(headers, authority, { forbidden: Forbidden.ofThisMachine(), names });
    // As the gate does it.
    server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, async (socket) => {
      const opening = await sniff(socket, 5_000);
      if (opening.kind === "tls" && interceptor.takes(opening.name)) interceptor.accept(socket, opening.name);
      else socket.destroy();
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
  });
  afterAll(async () => {
    interceptor?.close();
    server?.close();
    setDefaultCACertificates(roots);
    await lab?.close();
  });
  beforeEach(() => lab.forget());

  async function dial(servername: string, options: object = {}): Promise<tls.TLSSocket> {
    const { port } = server.address() as AddressInfo;
    const socket = tls.connect({ host: "127.0.0.1", port, servername, ca: authority.certificate, ...options });
    await once(socket, "secureConnect");
    return socket;
  }

  async function ask(
    servername: string,
    options: { path?: string; method?: string; headers?: Record<string, string> } = {},
  ) {
    const socket = await dial(servername);
    const asked = request({ createConnection: () => socket, headers: { host: servername }, ...options });
    asked.end();
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    let text = "";
    for await (const chunk of answer) text += String(chunk);
    socket.destroy();
    return { status: answer.statusCode, headers: answer.headers, text };
  }

  async function raw(servername: string, text: string, seen: RegExp): Promise<string> {
    const socket = await dial(servername);
    let said = "";
    socket.on("data", (chunk) => (said += String(chunk))).on("error", () => {});
    socket.write(text);
    await until(async () => seen.test(said) || socket.destroyed);
    socket.destroy();
    return said;
  }

  it("takes its domains only, by their names", () => {
    expect(interceptor.takes("allowed.test")).toBe(true);
    for (const other of ["test", "x.allowed.test", "notallowed.test"]) expect(interceptor.takes(other)).toBe(false);
  });

  it("adds them in the place of the sandbox's own", async () => {
    const headers = {
      host: "allowed.test",
      Authorization: "own",
      "X-API-Key": "own",
      connection: "x-api-key, x-other",
      "x-other": "1",
      "x-kept": "2",
    };
    const { status, text } = await ask("allowed.test", { path: "/path?q", headers });
    const got = JSON.parse(text) as { url: string; headers: Record<string, string> };
    expect([status, got.url]).toEqual([200, "/path?q"]);
    expect(got.headers).toMatchObject({ authorization: `Bearer ${VALUE}`, "x-api-key": `key ${VALUE}`, "x-kept": "2" });
    expect(got.headers).not.toHaveProperty("x-other");
    expect(await lab.hits()).toContainEqual({ kind: "tls", address: "", port: 443, text: "allowed.test" });
    expect(JSON.parse((await ask("other.test")).text)).toMatchObject({ headers: { authorization: `Bearer ${VALUE}` } });
  });

  it("asks nobody but the domain of the connection, whatever the request says", async () => {
    const forged = [
      "GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: allowed.test\r\nHost: evil.test\r\n\r\n",
      "GET https://evil.test/ HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
      "GET https://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
      "GET //evil.test@x HTTP/1.1\r\nHost: evil.test\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test\r\n\r\n",
      "TRACE / HTTP/1.1\r\nHost: allowed.test\r\n\r\n",
    ];
    for (const text of forged) {
      const said = await raw("allowed.test", text, /\r\n\r\n/);
      expect(said).toMatch(/^(HTTP\/1.1 4(00|05|21) |$)/);
      expect(said).not.toContain(VALUE);
    }
    const second = "GET /a HTTP/1.1\r\nHost: allowed.test\r\n\r\nGET /b HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    expect(await raw("allowed.test", second, /421/)).toMatch(/^HTTP\/1.1 200 [\s\S]*HTTP\/1.1 421 Misdirected Request/);
    const hits = await lab.hits();
    expect(hits.filter(({ kind }) => kind === "https").map(({ text }) => text)).toEqual(["GET allowed.test /a"]);
    expect(hits.filter(({ kind }) => kind === "tls").every(({ text }) => text === "allowed.test")).toBe(true);
  });

  it("follows no redirect", async () => {
    const to = "http://allowed.test/plain";
    const { status, headers } = await ask("allowed.test", { path: `/redirect?to=${encodeURIComponent(to)}` });
    expect([status, headers.location]).toEqual([302, to]);
    expect((await lab.hits()).filter(({ kind }) => kind === "http")).toEqual([]);
  });

  it("passes on what follows an upgrade", async () => {
    const upgrade =
      "GET /chat HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nover there";
    const said = await raw("allowed.test", upgrade, /over there/);
    expect(said).toMatch(/^HTTP\/1.1 101 [\s\S]*\r\n\r\nlab [\d.]+:443\nover there$/);
  });

  it("says why there is no answer", async () => {
    setDefaultCACertificates(roots);
    try {
      const { status, text } = await ask("allowed.test");
      expect([status, text]).toEqual([502, "sandbar: The host has no certificate that this machine trusts.\n"]);
    } finally {
      setDefaultCACertificates([...roots, lab.ca]);
    }
    // It is there, and has no certificate of that name.
    expect((await ask("strange.test")).status).toBe(502);
    const absent = await ask("absent.test");
    expect([absent.status, absent.text]).toEqual([502, "sandbar: The host has no address.\n"]);
    expect((await ask("inside.test")).status).toBe(403);
    expect((await lab.hits()).filter(({ kind }) => kind === "https")).toEqual([]);
  });

  it("speaks HTTP/1 only, with whoever trusts it only", async () => {
    await expect(dial("allowed.test", { ALPNProtocols: ["h2"] })).rejects.toThrow(/no application protocol/i);
    await expect(dial("allowed.test", { ca: lab.ca })).rejects.toThrow(/certificate/);
    expect((await dial("allowed.test", { ALPNProtocols: ["h2", "http/1.1"] })).destroy().alpnProtocol).toBe("http/1.1");
  });

  it("ends with its sandbox", async () => {
    const socket = await dial("allowed.test");
    socket.on("error", () => {});
    const closed = once(socket, "close");
    interceptor.close();
    await closed;
  });
});
