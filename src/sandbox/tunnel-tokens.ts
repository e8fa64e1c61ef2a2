import {
  readConnectToken,
  signConnectToken,
  TOKEN_PARAMETER,
  USER_DATA_HEADER,
  userDataOf,
  type ConnectClaims,
  type ConnectToken,
  type ConnectTokenCreate,
} from "../contract/connect-token.ts";
import { ApiError } from "../contract/errors.ts";
import { isLive } from "../contract/sandbox.ts";
import { isoOf } from "./describe.ts";
import { endedError } from "./lifecycle.ts";
import type { TunnelOrigin } from "./rpc.ts";
import type { SandboxRecord } from "./store.ts";
import { cookiesOf, cookieCounts, tokenCookie, withoutTokenCookies } from "./tunnel-cookie.ts";
import { tunnelsOf } from "./tunnels.ts";

/** Who may call the tunnels of the sandbox, and as whom: makes the tokens, and takes them from requests. */
export class TunnelTokens {
  readonly #signingSecret: string;
  readonly #now: () => number;

  constructor(signingSecret: string, now: () => number) {
    this.#signingSecret = signingSecret;
    this.#now = now;
  }

  async issue(record: SandboxRecord, request: ConnectTokenCreate, origin: TunnelOrigin): Promise<ConnectToken> {
    const { port, user_metadata: metadata, expires_in: expiresIn } = request;
    if (!record.create.encrypted_ports?.includes(port)) {
      throw new ApiError("invalid_request", { errors: [{ path: "port", message: "must be one of encrypted_ports" }] });
    }
    if (!isLive(record.state)) throw endedError(record);
    const expiresAt = Math.floor(this.#now() / 1000) + expiresIn;
    const userData = metadata === undefined ? undefined : userDataOf(metadata);
    const token = await signConnectToken(this.#signingSecret, {
      sandboxId: record.sandboxId,
      port,
      expiresAt,
      userData,
    });
    return { url: tunnelsOf(record, origin)[port]!.url, token, expires_at: isoOf(expiresAt * 1000) };
  }

  /**
   * The request as the app gets it: without any token of ours, and with what its token says of who calls. A browser that brings
   * its token in the URL gets a cookie for it first, and is sent to the URL without it. Throws `unauthenticated`.
   */
  async admit(record: SandboxRecord, port: number, request: Request): Promise<Request | Response> {
    const { target, token: fromUrl } = takeToken(request.url);
    const bearer = /^Bearer +(\S+) *$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const byUrl = await this.#read(fromUrl);
    const byHeader = await this.#read(bearer);
    const opens = (claims: ConnectClaims | undefined) =>
      claims?.sandboxId === record.sandboxId && claims.port === port && claims.expiresAt > this.#now() / 1000;
    const byCookie = cookieCounts(request) ? await this.#firstOf(cookiesOf(request), opens) : undefined;
    const holder = [byUrl, byHeader, byCookie].find(opens);
    if (record.create.tunnel_auth === "token" && !holder) throw refusal(fromUrl !== undefined || Boolean(byHeader));
    if (holder && holder === byUrl && isPlainGet(request)) return this.#withCookie(target, fromUrl!, holder);
    const headers = new Headers(request.headers);
    // One that is for something else is no less a secret.
    if (byHeader) headers.delete("authorization");
    withoutTokenCookies(headers);
    if (holder?.userData !== undefined) headers.set(USER_DATA_HEADER, holder.userData);
    const own = new Request(request, { headers });
    return fromUrl === undefined ? own : new Request(target, own);
  }

  async #read(token: string | undefined): Promise<ConnectClaims | undefined> {
    return token === undefined ? undefined : readConnectToken(this.#signingSecret, token);
  }

  async #firstOf(
    tokens: string[],
    opens: (claims: ConnectClaims | undefined) => boolean,
  ): Promise<ConnectClaims | undefined> {
    const all = await Promise.all(tokens.map((token) => this.#read(token)));
    return all.find(opens);
  }

  #withCookie(target: string, token: string, { expiresAt }: ConnectClaims): Response {
    const maxAge = Math.max(1, Math.floor(expiresAt - this.#now() / 1000));
    const headers = new Headers({
      location: target,
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
      "set-cookie": tokenCookie(token, maxAge, new URL(target).protocol === "https:"),
    });
    return new Response(null, { status: 302, headers });
  }
}

/** The URL without any token in its query, the rest of which stays as it was written; and the first of them. */
function takeToken(url: string): { target: string; token: string | undefined } {
  const { origin, pathname, search } = new URL(url);
  let token: string | undefined;
  const kept = search
    .slice(1)
    .split("&")
    .filter((part) => {
      const value = new URLSearchParams(part).get(TOKEN_PARAMETER);
      token ??= value ?? undefined;
      return value === null;
    })
    .join("&");
  return { target: `${origin}${pathname}${kept === "" ? "" : `?${kept}`}`, token };
}

const isPlainGet = ({ method, headers }: Request) => (method === "GET" || method === "HEAD") && !headers.has("upgrade");

function refusal(isPresented: boolean): ApiError {
  return new ApiError("unauthenticated", {
    detail: isPresented
      ? "The token is not, or no longer, one for this tunnel."
      : `This tunnel takes a token of POST …/connect-tokens: as \`Authorization: Bearer <token>\`, or once as \`?${TOKEN_PARAMETER}=<token>\`.`,
  });
}
