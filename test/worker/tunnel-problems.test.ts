import { runInDurableObject } from "cloudflare:test";
import { beforeEach, describe, expect, it } from "vitest";
import { tunnelProblem } from "../../src/api/tunnel-problem.ts";
import { ApiError } from "../../src/contract/errors.ts";
import type { Sandbox } from "../../src/contract/sandbox.ts";
import type { Parts } from "../../src/sandbox/parts.ts";
import { call, connectHost, problemOf, send } from "./client.ts";
import { getSandbox, objectOf, startSandbox, terminate } from "./sandboxes.ts";
import { startApp, through, tunnelUrl } from "./tunnel-calls.ts";
import { fakeHost } from "./worker.ts";

const BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

beforeEach(async () => {
  await connectHost();
  fakeHost.app = undefined;
  fakeHost.holdsStarts = false;
});

/** One of each kind: where it is met, how it is told, and some of what is said. */
async function problems(): Promise<[string, number, string, string][]> {
  const quiet = await startSandbox({ encrypted_ports: [8080] });
  const ended = await startSandbox({ encrypted_ports: [8080] });
  await terminate(ended);
  const { sandbox_id: failed } = (await (
    await call("POST", "/v1/sandboxes", { json: { encrypted_ports: [8080], image: "missing" } })
  ).json()) as Sandbox;
  await call("GET", `/v1/sandboxes/${failed}/wait?for=ended&timeout=5`);
  const listed = await startApp({ inbound_cidr_allowlist: ["203.0.113.0/24"] });
  const closed = await startApp({ tunnel_auth: "token" });
  return [
    [tunnelUrl(quiet), 502, "port_unreachable", "Nothing answers on this port"],
    [tunnelUrl(ended), 409, "sandbox_ended", "(terminated)"],
    [tunnelUrl(failed), 409, "sandbox_ended", "(start_failed)"],
    [tunnelUrl(quiet, "/", 9), 404, "not_found", "no tunnel to port 9"],
    [tunnelUrl("sb-aaaaaaaaaaaaaaaaaaaaaa"), 404, "sandbox_not_found", "no such sandbox"],
    ["https://x.localhost/", 404, "not_found", "No sandbox has this host name"],
    [tunnelUrl(listed), 403, "forbidden", "not reached from 198.51.100.7"],
    [tunnelUrl(closed), 401, "unauthenticated", "connect-tokens"],
  ];
}

const get = (url: string, headers: Record<string, string> = {}, method = "GET") =>
  send(new Request(url, { method, redirect: "manual", headers: { "cf-connecting-ip": "198.51.100.7", ...headers } }));

describe("what is wrong with a tunnel", () => {
  it("is a page for a browser, and a problem document for any other", async () => {
    for (const [url, status, code, says] of await problems()) {
      for (const accept of [undefined, "*/*", "application/json", "text/html;q=0.5, application/json"]) {
        const answer = await get(url, accept === undefined ? {} : { accept });
        expect(answer.headers.get("cache-control"), url).toBe("no-store");
        expect(await problemOf(answer), url).toMatchObject({ status, code });
      }
      expect(await problemOf(await get(url, { accept: BROWSER }, "POST")), url).toMatchObject({ status, code });
      const upgrade = await get(url, { accept: BROWSER, upgrade: "websocket" });
      expect(await problemOf(upgrade), url).toMatchObject({ status, code });
      const page = await get(url, { accept: BROWSER });
      expect([page.status, page.headers.get("content-type")], url).toEqual([status, "text/html; charset=utf-8"]);
      expect(page.headers.get("cache-control")).toBe("no-store");
      expect(page.headers.get("www-authenticate")).toBe(status === 401 ? 'Bearer realm="sandbar"' : null);
      const text = await page.text();
      expect(text).toContain(`${status} ${code}`);
      expect(text).toContain(says);
      expect(text).not.toContain("<script");
      const head = await get(url, { accept: BROWSER }, "HEAD");
      expect([head.status, head.headers.get("content-type"), await head.text()]).toEqual([
        status,
        "text/html; charset=utf-8",
        "",
      ]);
    }
  });

  it("is in a page that loads nothing and shows all of it as text", async () => {
    const hostile = new ApiError("not_found", { detail: `<script>alert("&'")</script>` });
    const page = await tunnelProblem(new Request("https://x.localhost/", { headers: { accept: BROWSER } }), hostile);
    const text = await page.text();
    expect(text).toContain("&lt;script&gt;alert(&quot;&amp;&#39;&quot;)&lt;/script&gt;");
    expect(text).not.toMatch(/<script|src=|href=|url\(/);
    const style = /<style>(.*)<\/style>/s.exec(text)![1]!;
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(style));
    const hash = btoa(String.fromCharCode(...new Uint8Array(digest)));
    expect(page.headers.get("content-security-policy")).toBe(
      `default-src 'none'; style-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`,
    );
    expect(page.headers.get("x-content-type-options")).toBe("nosniff");
  });
});

describe("an inbound allowlist", () => {
  const from = async (sandboxId: string, client: string | null) => (await through(sandboxId, "/", { client })).status;

  it("lets in whom it names, of IPv4 and IPv6, however the address is written", async () => {
    const sandboxId = await startApp({ inbound_cidr_allowlist: ["203.0.113.0/24", "2001:db8:1::/48"] });
    for (const client of ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8:1::5", "2001:0DB8:0001:0::5"])
      expect(await from(sandboxId, client), client).toBe(200);
    for (const client of ["203.0.114.1", "2001:db8:2::5", "", "nonsense", "203.0.113.9, 1.1.1.1", null])
      expect(await from(sandboxId, client), String(client)).toBe(403);
  });

  it("of nobody lets nobody in", async () => {
    const sandboxId = await startApp({ inbound_cidr_allowlist: [] });
    for (const client of ["127.0.0.1", null]) expect(await from(sandboxId, client)).toBe(403);
    expect(fakeHost.clients).toEqual([]);
  });
});

it("who may not call does not keep the sandbox from idling", async () => {
  const sandboxId = await startSandbox({ encrypted_ports: [8080], inbound_cidr_allowlist: [], idle_timeout: 1 });
  const knock = async () => {
    expect((await through(sandboxId)).status).toBe(403);
    return (await getSandbox(sandboxId)).finish_reason;
  };
  await expect.poll(knock, { timeout: 6000, interval: 100 }).toBe("idle_timeout");
});

it("a call that comes before the start waits for it", async () => {
  fakeHost.holdsStarts = true;
  const json = { encrypted_ports: [8080], entrypoint: ["serve", "8080"] };
  const { sandbox_id: sandboxId } = (await (await call("POST", "/v1/sandboxes", { json })).json()) as Sandbox;
  let isAnswered = false;
  const answer = through(sandboxId, "/page").finally(() => (isAnswered = true));
  await expect.poll(async () => (await getSandbox(sandboxId)).state).toBe("scheduled");
  await new Promise((wake) => setTimeout(wake, 200));
  expect(isAnswered).toBe(false);
  fakeHost.holdsStarts = false;
  expect(await (await answer).text()).toBe("GET /page");
});

it("a call that is never answered keeps the sandbox for so long at most", async () => {
  const sandboxId = await startSandbox();
  await runInDurableObject(objectOf(sandboxId), async (object) => {
    const { operations } = (object as unknown as { parts: Parts }).parts;
    let answer = () => {};
    const asked = operations.run(undefined, () => new Promise<void>((resolve) => (answer = resolve)), 100);
    expect(operations.inFlight).toBe(1);
    await expect.poll(() => operations.inFlight).toBe(0);
    answer();
    await asked;
    expect(operations.inFlight).toBe(0);
  });
});
