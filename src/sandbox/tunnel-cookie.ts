const NAME = "sandbar-token";
/** A browser takes one of this name from nobody but the very host, and only over TLS. */
const SECURE_NAME = `__Host-${NAME}`;
/** More of one name than a browser would send. */
const MAX_COOKIES = 8;

/** The cookie that stands for a token, of this host alone. */
export function tokenCookie(token: string, maxAgeS: number, isSecure: boolean): string {
  const cookie = `${isSecure ? SECURE_NAME : NAME}=${token}; Path=/; Max-Age=${maxAgeS}; HttpOnly; SameSite=Lax`;
  return isSecure ? `${cookie}; Secure` : cookie;
}

/** The tokens in the request's cookies. */
export function cookiesOf(request: Request): string[] {
  const name = new URL(request.url).protocol === "https:" ? SECURE_NAME : NAME;
  return pairs(request.headers)
    .filter((pair) => nameOf(pair) === name)
    .slice(0, MAX_COOKIES)
    .map((pair) => pair.slice(pair.indexOf("=") + 1).trim());
}

/** Takes the tokens out of the cookies. The others stay as they are. */
export function withoutTokenCookies(headers: Headers): void {
  const all = pairs(headers);
  const kept = all.filter((pair) => nameOf(pair) !== NAME && nameOf(pair) !== SECURE_NAME);
  if (kept.length === all.length) return;
  if (kept.length === 0) headers.delete("cookie");
  else headers.set("cookie", kept.map((pair) => pair.trim()).join("; "));
}

/**
 * Whether a cookie speaks for who sent the request. All tunnels are one site to a browser, so that `SameSite` keeps no page of
 * another sandbox from using it: what comes from another origin, and is not a person who follows a link, has to bring a token.
 */
export function cookieCounts({ url, method, headers }: Request): boolean {
  const site = headers.get("sec-fetch-site");
  if (site === "same-origin" || site === "none") return true;
  if (site !== null) return headers.get("sec-fetch-mode") === "navigate" && (method === "GET" || method === "HEAD");
  const origin = headers.get("origin");
  return origin === null || origin === new URL(url).origin;
}

const pairs = (headers: Headers) => headers.get("cookie")?.split(";") ?? [];
const nameOf = (pair: string) => pair.split("=", 1)[0]!.trim();
