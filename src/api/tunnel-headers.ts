import { USER_DATA_HEADER } from "../contract/connect-token.ts";
import { forwardedHeaders, isClaim, OWN_PREFIX, plainName } from "../contract/forwarding.ts";

/** The headers for the app: those of the client that do not say where it is or who, and what is known of that. */
export function headersForApp({ url, headers }: Request, client: string | undefined): Headers {
  const { protocol, host } = new URL(url);
  const own = new Headers([...headers].filter(([name]) => !isClaim(name) && plainName(name) !== USER_DATA_HEADER));
  const known = forwardedHeaders({ client, protocol: protocol.slice(0, -1), host });
  for (const [name, value] of Object.entries(known)) own.set(name, value);
  return own;
}

/** What would be of effect beyond the app's own host name: where else to reach it, and that the cookies of the whole domain go. */
const FAR_REACHING = new Set(["alt-svc", "clear-site-data"]);

const isFarReaching = (name: string) => FAR_REACHING.has(name) || name.startsWith(OWN_PREFIX);

/** The app's answer for the client: as it is, but for what would be of effect beyond the app's own host name. */
export function answerForClient(answer: Response): Response {
  const cookies = answer.headers.getSetCookie();
  const hasChanges =
    cookies.some((cookie) => hostOnly(cookie) !== cookie) || [...answer.headers.keys()].some(isFarReaching);
  if (!hasChanges) return answer;
  const headers = new Headers([...answer.headers].filter(([name]) => name !== "set-cookie" && !isFarReaching(name)));
  for (const cookie of cookies) headers.append("set-cookie", hostOnly(cookie));
  const { status, statusText, webSocket } = answer;
  return new Response(answer.body, { status, statusText, headers, webSocket });
}

/** The cookie of no domain but the very host that sets it. */
function hostOnly(cookie: string): string {
  const [pair, ...attributes] = cookie.split(";");
  const kept = attributes.filter((attribute) => nameOf(attribute) !== "domain");
  return kept.length === attributes.length ? cookie : [pair, ...kept].join(";");
}

/** As lenient as any browser may be: of the letters alone. */
const nameOf = (attribute: string) =>
  attribute
    .split("=", 1)[0]!
    .replaceAll(/[^A-Za-z]/g, "")
    .toLowerCase();
