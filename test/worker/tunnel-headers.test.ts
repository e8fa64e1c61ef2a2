import { beforeEach, describe, expect, it } from "vitest";
import { call, connectHost, ORIGIN, problemOf, send } from "./client.ts";
import { startApp, through, type Asked } from "./tunnel-calls.ts";
import { fakeHost } from "./worker.ts";

let sandboxId: string;

beforeEach(async () => {
  await connectHost();
  sandboxId = await startApp();
});

describe("the app behind a tunnel", () => {
  it("is told who asks, by whom and how, and nothing of it by the client", async () => {
    const forged = {
      "X-Forwarded-For": "10.0.0.1",
      X_Forwarded_For: "10.0.0.2",
      "X-Forwarded-Proto": "gopher",
      "X-Forwarded-Host": "elsewhere.example",
      "X-Forwarded-Port": "1",
      Forwarded: "for=10.0.0.3",
      "X-Real-IP": "10.0.0.4",
      "True-Client-IP": "10.0.0.5",
      "CF-Ray": "forged",
      "X-Verified-User-Data": "root",
      X_Verified_User_Data: "root",
      "X-Sandbar-Client": "10.0.0.6",
      "X-Mine": "kept",
      "X-Forwardings": "kept",
    };
    const asked = (await (await through(sandboxId, "/a?b=%20c", { headers: forged })).json()) as Asked;
    expect(asked.url).toBe(`https://8080-${sandboxId}.localhost/a?b=%20c`);
    expect(asked.headers).toEqual({
      "x-forwarded-for": "198.51.100.7",
      "x-forwarded-proto": "https",
      "x-forwarded-host": `8080-${sandboxId}.localhost`,
      "x-mine": "kept",
      "x-forwardings": "kept",
    });
    expect(fakeHost.clients).toEqual(["198.51.100.7"]);
  });

  it("is told nothing of an address that nobody knows", async () => {
    for (const client of [null, "nonsense", ""]) {
      const headers = { "x-forwarded-for": "10.0.0.1" };
      const asked = (await (await through(sandboxId, "/", { client, headers })).json()) as Asked;
      expect(asked.headers).not.toHaveProperty("x-forwarded-for");
    }
    expect(fakeHost.clients).toEqual([undefined, undefined, undefined]);
  });

  it("sets cookies for its own host name only, however it spells them", async () => {
    const spellings = [
      "a=1; Domain=localhost; Path=/",
      "b=2;DOMAIN =.localhost",
      "c=3;\tdomain\t= .localhost. ;HttpOnly",
      "d=4; Domain",
      "e=5; domain=x; Domain=localhost; Secure",
      "f=domain=kept; Path=/domain=/; SameSite=Lax",
    ];
    fakeHost.app = () => {
      const headers = new Headers({ "alt-svc": 'h3="elsewhere.example:443"', "clear-site-data": '"cookies"' });
      for (const cookie of spellings) headers.append("set-cookie", cookie);
      return new Response("short and stout", { status: 418, headers });
    };
    const answer = await through(sandboxId);
    expect([answer.status, await answer.text()]).toEqual([418, "short and stout"]);
    expect(answer.headers.getSetCookie()).toEqual([
      "a=1; Path=/",
      "b=2",
      "c=3;HttpOnly",
      "d=4",
      "e=5; Secure",
      "f=domain=kept; Path=/domain=/; SameSite=Lax",
    ]);
    expect([answer.headers.get("alt-svc"), answer.headers.get("clear-site-data")]).toEqual([null, null]);
  });

  it("does the same when it agrees to a WebSocket", async () => {
    fakeHost.app = () => {
      const { 0: theirs, 1: ours } = new WebSocketPair();
      ours.accept();
      ours.addEventListener("message", ({ data }) => ours.send(data));
      return new Response(null, {
        status: 101,
        webSocket: theirs,
        headers: { "set-cookie": "a=1; Domain=localhost", "sec-websocket-protocol": "chat" },
      });
    };
    const answer = await through(sandboxId, "/", { headers: { upgrade: "websocket" } });
    expect(answer.status).toBe(101);
    expect(answer.headers.get("sec-websocket-protocol")).toBe("chat");
    expect(answer.headers.getSetCookie()).toEqual(["a=1"]);
    const socket = answer.webSocket!;
    socket.accept();
    const echoed = new Promise((resolve) => socket.addEventListener("message", ({ data }) => resolve(data)));
    socket.send("over the tunnel");
    expect(await echoed).toBe("over the tunnel");
    socket.close();
  });

  it("has its own errors and redirects passed on untouched", async () => {
    for (const status of [301, 404, 409, 502, 503]) {
      const body = JSON.stringify({ code: "port_unreachable" });
      const headers = { "content-type": "application/problem+json", location: "https://elsewhere.example/" };
      fakeHost.app = () => new Response(body, { status, headers });
      const answer = await through(sandboxId, "/", { headers: { accept: "text/html" } });
      expect([answer.status, await answer.text()]).toEqual([status, body]);
      expect(answer.headers.get("location")).toBe("https://elsewhere.example/");
      expect(answer.headers.get("cache-control")).toBeNull();
    }
  });

  it("cannot pass its answer off as ours", async () => {
    fakeHost.app = () => new Response("mine", { headers: { "x-sandbar-refused": "signature" } });
    const answer = await through(sandboxId);
    expect([answer.headers.get("x-sandbar-refused"), await answer.text()]).toEqual([null, "mine"]);
  });
});

describe("the API's origin", () => {
  it("lets no page of another origin read from it, and takes no cookie for a key", async () => {
    const headers = {
      origin: `https://8080-${sandboxId}.localhost`,
      cookie: "authorization=Bearer x; sandbar-token=x",
    };
    const preflight = {
      ...headers,
      "access-control-request-method": "GET",
      "access-control-request-headers": "authorization",
    };
    for (const path of ["/v1/sandboxes", "/v1/keys", "/docs", "/openapi.json", "/health"]) {
      for (const request of [
        new Request(ORIGIN + path, { headers }),
        new Request(ORIGIN + path, { method: "OPTIONS", headers: preflight }),
      ]) {
        const answer = await send(request);
        await answer.body?.cancel();
        expect([...answer.headers.keys()].filter((name) => name.startsWith("access-control-"))).toEqual([]);
        expect(answer.headers.getSetCookie()).toEqual([]);
      }
    }
    expect(await problemOf(await send(new Request(`${ORIGIN}/v1/sandboxes`, { headers })))).toMatchObject({
      status: 401,
    });
    expect((await call("GET", "/v1/sandboxes", { headers })).status).toBe(200);
  });
});
