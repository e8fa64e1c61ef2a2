import { mkdtempSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { HostKeys } from "../../src/host/host-keys.ts";
import { createHostServer, type HostServerOptions } from "../../src/host/server.ts";
import { ChildRuntime } from "./child-runtime.ts";
import { listening, SignedHost } from "./signed-host.ts";

let host: SignedHost;
let server: Server;
let app: Server;
let path: string;
let reached = 0;

/** A host's server before which stand the rules of one sandbox. */
beforeAll(async () => {
  host = await SignedHost.start(new ChildRuntime());
  const box = await host.sandbox();
  const { hostId, key: hostKey } = host;
  const context = {
    info: { host_id: hostId },
    keys: new HostKeys(mkdtempSync("/tmp/sandbar-host-"), { hostId, hostKey, keyVersion: 1 }),
    containers: host.daemon.containers,
    networks: { policyOf: () => ({ inbound_cidrs: ["203.0.113.0/24", "2001:db8::/32"] }) },
    tunnelQuietMs: 60_000,
  };
  server = createHostServer(context as unknown as HostServerOptions);
  host.port = await listening(server);
  app = createServer((_, response) => response.end(String((reached += 1))));
  new WebSocketServer({ server: app }).on("connection", () => (reached += 1));
  path = `${box}/ports/${await listening(app)}/proxy`;
});
afterAll(async () => {
  for (const one of [server, app]) {
    one.closeAllConnections();
    one.close();
  }
  await host.daemon.close({ stopContainers: true });
});

const ask = (client?: string) =>
  host.call("GET", path, { headers: client === undefined ? {} : { "x-sandbar-client": client } });

test("whom its rules keep out does not reach the sandbox, nor who is not known", async () => {
  for (const client of ["203.0.113.5", "::ffff:203.0.113.5", "2001:db8::1"])
    expect((await ask(client)).status).toBe(200);
  reached = 0;
  for (const client of ["198.51.100.1", "2001:db9::1", "nonsense", "", undefined]) {
    const answer = await ask(client);
    expect([answer.status, answer.headers["x-sandbar-problem"]]).toEqual([403, "forbidden"]);
  }
  expect(reached).toBe(0);
});

test("the same of a WebSocket", async () => {
  const open = async (client: string) => {
    const headers = { "x-sandbar-signature": await host.sign("GET", path), "x-sandbar-client": client };
    const socket = new WebSocket(`ws://127.0.0.1:${host.port}${path}`, { headers });
    return new Promise((resolve) => {
      socket.once("open", () => resolve(socket.terminate() ?? 101));
      socket.once("unexpected-response", (request, response) => resolve(response.statusCode ?? request.destroy()));
      socket.on("error", () => {});
    });
  };
  expect(await open("203.0.113.5")).toBe(101);
  reached = 0;
  expect(await open("198.51.100.1")).toBe(403);
  expect(reached).toBe(0);
});
