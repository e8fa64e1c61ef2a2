import { once } from "node:events";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { ChildRuntime } from "./child-runtime.ts";
import { listening, SignedHost, until } from "./signed-host.ts";

const runtime = new ChildRuntime();
let host: SignedHost;
let box: string;

beforeAll(async () => {
  host = await SignedHost.start(runtime);
  box = await host.sandbox();
});
afterAll(() => host.daemon.close({ stopContainers: true }));

describe("ports", () => {
  test("pass HTTP as it is", async () => {
    const seen: { url: string | undefined; headers: NodeJS.Dict<string | string[]>; body: string }[] = [];
    const app = createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      seen.push({ url: request.url, headers: request.headers, body });
      response.writeHead(
        418,
        "I am",
        [
          ["X-Two", "1"],
          ["X-Two", "2"],
          ["Set-Cookie", "a=1"],
          ["Set-Cookie", "b=2"],
        ].flat(),
      );
      response.end("short and stout");
    });
    const port = await listening(app);
    const answer = await host.call("POST", `${box}/ports/${port}/proxy`, {
      body: "tea",
      headers: {
        "x-sandbar-target": "/a/../b?c=%20",
        "x-sandbar-host": "app.example",
        "x-sandbar-protocol": "https",
        "x-sandbar-client": "198.51.100.7",
        "x-forwarded-for": "10.0.0.1",
        x_forwarded_proto: "gopher",
        "cf-worker": "example",
        authorization: "Bearer of-the-user",
        "x-sandbar-secret": "s",
        connection: "keep-alive, x-hop",
        "x-hop": "1",
      },
    });
    expect(answer.status).toBe(418);
    expect(answer.body.toString()).toBe("short and stout");
    expect(answer.headers["set-cookie"]).toEqual(["a=1", "b=2"]);
    expect(answer.headers["x-two"]).toBe("1, 2");
    expect(seen[0]).toMatchObject({ url: "/a/../b?c=%20", body: "tea" });
    expect(seen[0]!.headers).toMatchObject({ host: "app.example", authorization: "Bearer of-the-user" });
    const told = Object.entries(seen[0]!.headers).filter(([name]) => /^(x[-_]|cf-)/.test(name));
    expect(Object.fromEntries(told)).toEqual({
      "x-forwarded-for": "198.51.100.7",
      "x-forwarded-proto": "https",
      "x-forwarded-host": "app.example",
    });
    // A signature in Authorization is ours and stays here.
    const signature = await host.sign("GET", `${box}/ports/${port}/proxy`);
    await host.call("GET", `${box}/ports/${port}/proxy`, { signature: null, headers: { authorization: signature } });
    expect(seen[1]!.headers.authorization).toBeUndefined();
    expect((await host.call("GET", `${box}/ports/${port}`)).json).toEqual({ open: true });
    app.close();
  });
  test("pass events as they come, and the client's leaving", async () => {
    let left = false;
    const app = createServer((request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
      const timer = setInterval(() => response.write("data: x\n\n"), 20);
      request.on("close", () => {
        clearInterval(timer);
        left = true;
      });
    });
    const port = await listening(app);
    const answer = await host.open("GET", `${box}/ports/${port}/proxy`);
    for await (const chunk of answer) {
      expect(String(chunk)).toBe("data: x\n\n");
      break;
    }
    await until(() => left);
    app.close();
  });
  test("that nobody listens on, or that break off, are unreachable", async () => {
    const app = createTcpServer((socket) => socket.once("data", () => socket.destroy()));
    await new Promise<void>((resolve) => app.listen(0, "127.0.0.1", resolve));
    const { port } = app.address() as AddressInfo;
    expect((await host.call("GET", `${box}/ports/${port}/proxy`)).status).toBe(502);
    app.close();
    const answer = await host.call("GET", `${box}/ports/${port}/proxy`);
    expect(answer.status).toBe(502);
    expect(answer.body.toString()).toContain("port_unreachable");
    expect(answer.body.toString()).toContain(`on port ${port}. An app on a docker host has to listen on 0.0.0.0`);
    expect((await host.call("GET", `${box}/ports/${port}`)).json).toEqual({ open: false });
  });
  test("outlive answers that are none, and reasons that HTTP does not know", async () => {
    let said = "";
    const app = createTcpServer((socket) => {
      socket.on("error", () => {}).once("data", () => socket.end(`${said}\r\nContent-Length: 2\r\n\r\nok`, "latin1"));
    });
    const port = await listening(app);
    const ask = async (head: string) => {
      said = head;
      const { status, body } = await host.call("GET", `${box}/ports/${port}/proxy`);
      return `${status} ${body.toString()}`;
    };
    expect(await ask("HTTP/1.1 099 What")).toContain("port_unreachable");
    expect(await ask("HTTP/1.1 999 What")).toContain("port_unreachable");
    expect(await ask("HTTP/1.1 200 a\x01b")).toBe("200 ok");
    app.close();
  });
  test("end what was begun for a client that has gone while the port was dialled", async () => {
    const [dialled, goesOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const connected = Promise.withResolvers<Socket>();
    const app = createTcpServer((socket) => connected.resolve(socket.on("error", () => {}).resume()));
    const port = await listening(app);
    const container = runtime.started.at(-1)!;
    const dial = container.dial.bind(container);
    container.dial = async (asked) => {
      dialled.resolve();
      await goesOn.promise;
      return dial(asked);
    };
    const path = `${box}/ports/${port}/proxy`;
    const client = connect(host.daemon.port, "127.0.0.1");
    client.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nx-sandbar-signature: ${await host.sign("GET", path)}\r\n\r\n`);
    await dialled.promise;
    client.destroy();
    await once(client, "close");
    // By a call later it is known there, too.
    await host.call("GET", box);
    goesOn.resolve();
    const socket = await connected.promise;
    if (!socket.closed) await once(socket, "close");
    await until(async () => !(await host.call("GET", box)).json.busy);
    container.dial = dial;
    app.close();
  });
  test("pass the head of a request whose body waits for the answer", async () => {
    const app = createServer((_, response) => response.writeHead(200).flushHeaders());
    const port = await listening(app);
    const path = `${box}/ports/${port}/proxy`;
    const client = connect(host.daemon.port, "127.0.0.1");
    const signature = await host.sign("POST", path);
    client.write(
      `POST ${path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nx-sandbar-signature: ${signature}\r\n\r\n`,
    );
    const [answer] = (await once(client, "data", { signal: AbortSignal.timeout(10_000) })) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1.1 200 /);
    client.destroy();
    app.closeAllConnections();
    app.close();
  });
  test("pass WebSockets, when signed", async () => {
    const app = createServer((_, response) => response.writeHead(200).end());
    const sockets = new WebSocketServer({ server: app, path: "/ws" });
    sockets.on("connection", (socket) => {
      socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
    const port = await listening(app);
    const path = `${box}/ports/${port}/proxy`;
    const open = (headers: Record<string, string>) =>
      new WebSocket(`ws://127.0.0.1:${host.daemon.port}${path}`, { headers });
    const socket = open({ "x-sandbar-signature": await host.sign("GET", path), "x-sandbar-target": "/ws" });
    const echoed = await new Promise<Buffer>((resolve, reject) => {
      socket.on("open", () => socket.send(Buffer.alloc(200_000, 7)));
      socket.on("message", (data) => resolve(data as Buffer));
      socket.on("error", reject);
    });
    expect(echoed.equals(Buffer.alloc(200_000, 7))).toBe(true);
    expect((await host.call("GET", box)).json.busy).toBe(true);
    const closed = new Promise<number>((resolve) => socket.on("close", resolve));
    socket.close(4001, "bye");
    expect(await closed).toBe(4001);
    await until(async () => !(await host.call("GET", box)).json.busy);

    const refusal = (headers: Record<string, string>) =>
      new Promise((resolve) => {
        const refused = open(headers);
        refused.on("unexpected-response", (_, response) => resolve(response.statusCode));
        refused.on("error", () => {});
      });
    expect(await refusal({ "x-sandbar-target": "/ws" })).toBe(401);
    expect(await refusal({ "x-sandbar-signature": await host.sign("GET", path), "x-sandbar-target": "/other" })).toBe(
      400,
    );
    sockets.close();
    app.close();
  });
});
