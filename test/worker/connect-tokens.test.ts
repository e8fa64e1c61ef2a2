import { env } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { signConnectToken } from "../../src/contract/connect-token.ts";
import { call, connectHost, newKey, problemOf } from "./client.ts";
import { terminate } from "./sandboxes.ts";
import { connectToken, PORT, startApp, through, tunnelUrl, type Asked } from "./tunnel-calls.ts";
import { fakeHost } from "./worker.ts";

const PRIVATE = { tunnel_auth: "token" };
const DATA = "x-verified-user-data";

let sandboxId: string;

beforeEach(async () => {
  await connectHost();
  sandboxId = await startApp(PRIVATE);
});

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const askedOf = async (response: Response): Promise<Asked> => {
  expect(response.status).toBe(200);
  return response.json();
};
const statusOf = async (response: Promise<Response>) => {
  const answer = await response;
  await answer.body?.cancel();
  return answer.status;
};
const inSeconds = (seconds: number) => Math.floor(Date.now() / 1000) + seconds;
const sign = (more: object = {}) =>
  signConnectToken(env.SIGNING_SECRET, { sandboxId, port: PORT, expiresAt: inSeconds(60), ...more });

describe("a token of a tunnel", () => {
  it("comes with where and how long it is good", async () => {
    const { url, token, expires_at } = await connectToken(sandboxId);
    expect(url).toBe(`http://8080-${sandboxId}.localhost`);
    expect(token.length).toBeLessThan(512);
    expect(Date.parse(expires_at) / 1000 - inSeconds(3600)).toBeCloseTo(0, -1);
    const short = await connectToken(sandboxId, { expires_in: 60 });
    expect(Date.parse(short.expires_at) / 1000 - inSeconds(60)).toBeCloseTo(0, -1);
  });

  it.each([
    [{}, "port"],
    [{ port: 9 }, "port"],
    [{ port: PORT, expires_in: 0 }, "expires_in"],
    [{ port: PORT, expires_in: 86_401 }, "expires_in"],
    [{ port: PORT, user_metadata: "two\nlines" }, "user_metadata"],
    [{ port: PORT, user_metadata: " a" }, "user_metadata"],
    [{ port: PORT, user_metadata: "ä" }, "user_metadata"],
    [{ port: PORT, user_metadata: { a: "ä".repeat(200) } }, "user_metadata"],
    [{ port: PORT, user_metadata: [1] }, "user_metadata"],
  ])("is refused for %j", async (json, path) => {
    const response = await call("POST", `/v1/sandboxes/${sandboxId}/connect-tokens`, { json });
    expect(await problemOf(response)).toMatchObject({ status: 400, code: "invalid_request", errors: [{ path }] });
  });

  it("is for whoever may write in the sandbox's environment, and while it lives", async () => {
    const ask = (key?: string) =>
      call("POST", `/v1/sandboxes/${sandboxId}/connect-tokens`, { json: { port: PORT }, ...(key && { key }) });
    expect((await ask((await newKey(["read"])).key)).status).toBe(403);
    expect((await ask((await newKey(["write"], "other")).key)).status).toBe(404);
    await terminate(sandboxId);
    expect(await problemOf(await ask())).toMatchObject({ status: 409, code: "sandbox_ended" });
  });
});

describe("a private tunnel", () => {
  it("takes a bearer, tells the app whose it is, and keeps it from the app", async () => {
    const metadata = { user: "zoë", admin: false };
    const { token } = await connectToken(sandboxId, { user_metadata: metadata });
    const asked = await askedOf(await through(sandboxId, "/?a", bearer(token)));
    expect(JSON.parse(asked.headers[DATA]!)).toEqual(metadata);
    expect(JSON.stringify(asked)).not.toContain(token);
    const { token: plain } = await connectToken(sandboxId, { user_metadata: "user 7" });
    expect((await askedOf(await through(sandboxId, "/", bearer(plain)))).headers[DATA]).toBe("user 7");
    const { token: nobody } = await connectToken(sandboxId);
    const headers = { authorization: `Bearer ${nobody}`, [DATA]: "forged" };
    expect((await askedOf(await through(sandboxId, "/", { headers }))).headers).not.toHaveProperty(DATA);
  });

  it("refuses every other", async () => {
    const other = await startApp(PRIVATE);
    const good = await sign();
    const [head, payload, signature] = good.split(".");
    const refused = {
      none: "",
      nonsense: "nonsense",
      "another sandbox's": (await connectToken(other)).token,
      "another port's": (await connectToken(sandboxId, { port: PORT + 1 })).token,
      expired: await sign({ expiresAt: inSeconds(-1) }),
      "another deployment's": await signConnectToken("another-secret-another-secret-another", {
        sandboxId,
        port: PORT,
        expiresAt: inSeconds(60),
      }),
      changed: `${head}.${payload}.${signature!.startsWith("A") ? "B" : "A"}${signature!.slice(1)}`,
      unsigned: `${btoa('{"alg":"none"}').replaceAll("=", "")}.${payload}.`,
    };
    for (const [kind, token] of Object.entries(refused)) {
      for (const request of [
        through(sandboxId, "/", bearer(token)),
        through(sandboxId, `/?_sandbar_token=${token}`),
        through(sandboxId, "/", { headers: { cookie: `__Host-sandbar-token=${token}` } }),
        through(sandboxId, "/", { headers: { upgrade: "websocket", authorization: `Bearer ${token}` } }),
        through(sandboxId, "/", { method: "OPTIONS", headers: { origin: "https://x.example" } }),
      ]) {
        const answer = await request;
        expect(answer.headers.get("www-authenticate"), kind).toContain("Bearer");
        expect(await problemOf(answer), kind).toMatchObject({ status: 401, code: "unauthenticated" });
      }
    }
    expect(fakeHost.clients).toEqual([]);
    expect(await statusOf(through(sandboxId, "/", bearer(good)))).toBe(200);
  });

  it("is not for everybody with a token where a list says who may come", async () => {
    const listed = await startApp({ ...PRIVATE, inbound_cidr_allowlist: ["203.0.113.0/24"] });
    const { token } = await connectToken(listed);
    expect(await statusOf(through(listed, "/", bearer(token)))).toBe(403);
    expect(await statusOf(through(listed, "/", { ...bearer(token), client: "203.0.113.5" }))).toBe(200);
  });

  it("says to who has a token that the sandbox has ended", async () => {
    const { token } = await connectToken(sandboxId);
    await terminate(sandboxId);
    expect(await problemOf(await through(sandboxId, "/", bearer(token)))).toMatchObject({ code: "sandbox_ended" });
    expect(await problemOf(await through(sandboxId))).toMatchObject({ code: "unauthenticated" });
  });
});

describe("a token in the URL", () => {
  it("becomes a cookie of the host alone, and leaves the URL as it was", async () => {
    const { token } = await connectToken(sandboxId, { user_metadata: "user 7", expires_in: 60 });
    const first = await through(sandboxId, `//a/%2e%2e?x=%20+&_sandbar_token=${token}&y&%5fsandbar_token=2`);
    expect(first.status).toBe(302);
    expect(first.headers.get("location")).toBe(tunnelUrl(sandboxId, "//a/%2e%2e?x=%20+&y").replace("//a/%2e%2e", "//"));
    expect(first.headers.get("cache-control")).toBe("no-store");
    const [cookie] = first.headers.getSetCookie();
    expect(cookie).toMatch(/^__Host-sandbar-token=\S+; Path=\/; Max-Age=(59|60); HttpOnly; SameSite=Lax; Secure$/);
    expect(fakeHost.clients).toEqual([]);
    const pair = cookie!.split(";")[0]!;
    const headers = { cookie: `mine=1; ${pair}; sandbar-token=x;also=2`, authorization: "Bearer of-the-app" };
    const asked = await askedOf(await through(sandboxId, "/page", { headers }));
    expect(asked.headers).toMatchObject({
      [DATA]: "user 7",
      cookie: "mine=1; also=2",
      authorization: "Bearer of-the-app",
    });
    const alone = await askedOf(await through(sandboxId, "/page", { headers: { cookie: pair } }));
    expect(alone.headers).not.toHaveProperty("cookie");
  });

  it("becomes one without TLS where there is none", async () => {
    const { token } = await connectToken(sandboxId);
    const first = await through(sandboxId, `/?_sandbar_token=${token}`, { scheme: "http" });
    expect(first.headers.get("location")).toBe(tunnelUrl(sandboxId, "/", PORT, "http"));
    const [cookie] = first.headers.getSetCookie();
    expect(cookie).toMatch(/^sandbar-token=\S+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/);
    const headers = { cookie: cookie!.split(";")[0]! };
    expect(await statusOf(through(sandboxId, "/", { scheme: "http", headers }))).toBe(200);
    // Over TLS anybody below the same domain could have set it.
    expect(await statusOf(through(sandboxId, "/", { headers }))).toBe(401);
  });

  it("lets what is no page straight through, without it", async () => {
    const { token } = await connectToken(sandboxId);
    const asked = await askedOf(
      await through(sandboxId, `/hook?_sandbar_token=${token}&z=1`, { method: "POST", body: "b" }),
    );
    expect(asked).toMatchObject({ method: "POST", url: tunnelUrl(sandboxId, "/hook?z=1"), body: "b" });
    expect(await statusOf(through(sandboxId, `/?_sandbar_token=${token}`, { headers: { upgrade: "websocket" } }))).toBe(
      200,
    );
  });
});

describe("a cookie", () => {
  const with_ = async (headers: Record<string, string>, method = "GET") => {
    const cookie = `__Host-sandbar-token=${await sign()}`;
    return statusOf(through(sandboxId, "/", { method, headers: { cookie, ...headers } }));
  };

  it("speaks for nobody on a page of another origin, such as another sandbox's", async () => {
    const elsewhere = `https://8080-sb-${"e".repeat(22)}.localhost`;
    const own = tunnelUrl(sandboxId, "");
    expect(await with_({ origin: elsewhere }, "POST")).toBe(401);
    expect(await with_({ origin: elsewhere, upgrade: "websocket" })).toBe(401);
    expect(await with_({ origin: "null" }, "POST")).toBe(401);
    expect(await with_({ "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors" })).toBe(401);
    expect(await with_({ "sec-fetch-site": "same-site", "sec-fetch-mode": "navigate" }, "POST")).toBe(401);
    expect(await with_({ origin: own }, "POST")).toBe(200);
    expect(await with_({ origin: own, upgrade: "websocket" })).toBe(200);
    expect(await with_({ "sec-fetch-site": "same-origin", origin: "null" }, "POST")).toBe(200);
    expect(await with_({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" })).toBe(200);
    expect(await with_({ "sec-fetch-site": "none" })).toBe(200);
  });
});

describe("a tunnel for anybody", () => {
  it("tells whose token it gets, and never fails for one", async () => {
    const open = await startApp();
    const { token } = await connectToken(open, { user_metadata: "user 7" });
    const asked = await askedOf(await through(open, "/", bearer(token)));
    expect(asked.headers[DATA]).toBe("user 7");
    expect(asked.headers).not.toHaveProperty("authorization");
    const headers = { authorization: "Bearer of-the-app", [DATA]: "forged", cookie: "sandbar-token=x; a=1" };
    const other = await askedOf(await through(open, "/?_sandbar_token=nonsense&a=1", { headers }));
    expect(other.url).toBe(tunnelUrl(open, "/?a=1"));
    expect(other.headers).toMatchObject({ authorization: "Bearer of-the-app", cookie: "a=1" });
    expect(other.headers).not.toHaveProperty(DATA);
    // One for something else is kept from the app all the same.
    const elsewhere = await askedOf(await through(open, "/", bearer(await sign())));
    expect(elsewhere.headers).not.toHaveProperty("authorization");
    expect(elsewhere.headers).not.toHaveProperty(DATA);
  });
});
